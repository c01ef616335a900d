"""What the launcher asks of the kernel, and its one thread: loop, children, prctl, trying again.

Knows `errors` alone. Begin with `loop` (selectors and timers), then `children`, the one owner of
wait: nobody else reaps, and nobody signals a process but through it.
"""
