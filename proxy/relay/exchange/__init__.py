"""What is exchanged on a connection, decided without any I/O: bytes and events in, decisions out.

Knows the grammar (`relay/http`) and the verdicts of the gate; no asyncio, no sockets, no relay.
Begin with `conversation` (a request, its answer, the next request), which reads by `intake` (the
client's bytes, cut into heads and bodies); `follower` finds the end of an answer. `refusals` are
our own answers, `sessionkeys` says who may pass.
"""
