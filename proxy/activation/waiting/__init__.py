"""Upstreams that run while they are dormant, and are told of the init.

Begin with `starter`, which has it told, or has the upstream started anew; `dormancy` sees to it
that there is an upstream to tell. How one waits, and how it is told, is a `way`: by a deferred init
of its own (`native`), or by requests that the settings describe (`standby`).
"""
