"""The controller's side of the launcher: what it is asked, and whether it may be.

Knows `kernel`. Begin with `wire` (JSON lines, one session at a time); `listen` is the socket for a
controller in another container and the proof of both ends; `spec`, `command` and `preload` check
what is asked before anything is done.
"""
