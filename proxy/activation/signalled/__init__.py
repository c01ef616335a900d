"""Upstreams that run by themselves and are told by a signal that their files are there.

Begin with `signals`; `delivery` is about the files, `target` finds the one process that is meant,
`shellfile` writes for a shell.
"""
