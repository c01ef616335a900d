"""Upstreams that run while they are dormant as they would without an init, and get it by requests.

Begin with `way`; `telling` makes the requests, which `lifecycle.told.requests` has filled.
"""
