"""The two ends of a conversation as sockets: bytes in and out, as `relay/exchange` decides.

Knows every other room of the relay, and not the relay itself. Begin with `client`, which asks
for a verdict, opens a `backend` through `dialling` and does what the conversation says; `wire` is
the client's transport, `shared` what all connections have in common.
"""
