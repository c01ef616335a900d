"""Launchers of our own: children of the proxy, in the same container.

`process` is one of them, `interpreter` finds what it runs with, `orphans` ends what a lost one
leaves behind.
"""
