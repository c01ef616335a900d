"""Upstreams that wait in a dormant mode of their own, and get the init passed on.

Begin with `starter`, which passes it on, or has the upstream started anew; `dormancy` sees to it
that there is a dormant upstream to pass it to, and `effects` that an init has worked. How the
server does it is told by the profile (`NativeSettings`), whether it can by the server itself.
"""
