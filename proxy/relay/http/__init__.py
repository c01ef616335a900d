"""HTTP/1.1 as bytes: heads, bodies and responses by one strict grammar, without any I/O.

Knows nothing above it: no asyncio, no sockets, no life cycle. Begin with `grammar`, then `reader`
and `head` (what a request means, and what of it goes on), `body` and `chunks` (where a message
ends) and `response` (the same of an answer). `faults` says why bytes are no head.
"""
