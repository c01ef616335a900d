"""When an upstream is ready: its probe, its port, and nobody else in its place.

Begin with `probe`; `door` wakes it as soon as somebody listens, `vacancy` looks before the start.
"""
