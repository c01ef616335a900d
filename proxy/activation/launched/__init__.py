"""Upstreams that a launcher starts: the controller's side of the wire.

Begin with `spawn` (a launcher of our own), then `remote` (one in another container). `link` is the
connection to it, `messages` and `preloading` what it is told, `process` and `interpreter` how ours
is started, `runs`, `orphans` and `leftovers` what is left to do when one is gone.
"""
