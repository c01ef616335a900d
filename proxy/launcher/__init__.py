"""The launcher: runs beside the upstream, with the upstream's interpreter, and starts it.

Standard library only, Python 3.8 and later, and small in memory: it lives as long as the pod.
It never imports the rest of `proxy`. Started as a directory, as a zipapp or as a module:

    python -I proxy/launcher --fd N

Rooms: `loop` (one thread, selectors), `wire` (JSON lines to the controller), `spec` (checks what
the controller asks for), `files` and `place` (write and undo), `child` (from fork to exec),
`children` (the one owner of wait), `output` (pipes), `process` (start and stop), `launcher` (the
operations).
"""
