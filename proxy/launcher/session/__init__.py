"""The controller's side of the launcher: what it is asked, and whether it may be.

Knows `kernel`. Begin with `wire` (JSON lines, one session at a time); `listen` is for a controller
in another container, `handover` how that one is known again; `spec`, `command` and `preload` check
what is asked before anything is done.
"""
