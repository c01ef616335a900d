"""When an upstream is ready: its probe, its port, and nobody else in its place.

Begin with `probe`; `question` is one attempt, `asking` many, `door` wakes them as soon as somebody
listens, `line` hears the log, `vacancy` looks before the start.
"""
