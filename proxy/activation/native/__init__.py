"""Upstreams that wait in a dormant mode of their own, and get the init passed on.

Begin with `way`, which passes it on; `effects` sees to it that an init has worked. How the server
does it is told by the profile (`NativeSettings`), whether it can by the server itself.
"""
