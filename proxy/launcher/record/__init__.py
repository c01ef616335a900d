"""What can be preloaded: found out by running the upstream once and trying its modules.

Knows `warm`, `upstream`, `session` and `kernel`. Begin with `record` (the passes, by `boot` where
the upstream runs); `recording` does it in a fork of the launcher, `planfile` is its result on disk.
"""
