"""Upstreams that a launcher starts: the controller's side of the wire.

Begin with `starter`; launchers of our own are in `own`, those in another container in `remote`.
`link` is the connection to one, `messages` and `preloading` what it is told, `runs` what it has
started and may leave.
"""
