"""The upstream as a process, and what is written for it.

Knows `session` and `kernel`. Begin with `process` (start, stop, report the end); `child` goes from
fork to exec, `delivery` makes the environment, `files` and `place` write and undo, `output` reads
the pipes.
"""
