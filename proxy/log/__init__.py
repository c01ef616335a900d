"""The log: JSON lines or text on standard error that never hold up the loop and never raise.

Knows nothing of the proxy. Begin with `log` (records and masking); `logpipe` is the way out past a
slow reader, `upstreamlog` brings the upstream's own lines in.
"""
