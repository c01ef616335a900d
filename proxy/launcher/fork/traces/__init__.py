"""What modules leave in the process that has preloaded them, and what of it a fork may inherit.

Knows `audit`. `leftovers` and `threads` are reasons not to preload a module, `draws` and shared
memory reasons to fork but once; `anew` makes anew what can be; `unchanged` asks where it came from.
"""
