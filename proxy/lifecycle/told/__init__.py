"""What upstreams are told of an init otherwise than by their start.

By an init of their own (`native`), or by requests (`requests`, `standby`); and what one of a
certain make would not take (`specs`).
"""
