"""The upstream as a process, and what is written for it.

Knows `session` and `kernel`. Begin with `process` (start, stop, report the end); `child` goes from
fork to exec, `delivery` makes the environment, `output` reads the pipes. `files` writes and undoes,
by `place` (one file), `steps` and `room` (what is noted), `tree` (what others have built).
"""
