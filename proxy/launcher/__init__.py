"""The launcher: runs beside the upstream, with the upstream's interpreter, and starts it.

Standard library only, Python 3.8 and later, and small in memory: it lives as long as the pod.
It never imports the rest of `proxy`. Started as a directory, as a zipapp or as a module:

    python -I proxy/launcher --fd N

Begin with `launcher` (the operations), then `warmth` (warm or cold, and why). Rooms, each knowing
those before it: `kernel` (one thread, children), `session` (the controller's requests), `upstream`
(process, files, output), `audit` (who read what), `fork` (inside the fork server), `warm` (the fork
server from outside), `record` (what can be preloaded).
"""
