"""The guided tour: a proxy as a child process, led through its life and shown.

Knows `client` and the sample agent beside it. Begin with `tour`, then `steps`.
"""
