"""The composition root and what it owns; knows every room.

Begin with `serve`: `Server.__init__` is the whole house on one screen. `starters` builds what
`upstream.activation` names, `doorkeeper` tells the relay what the life cycle says, `listen` and
`admin` open sockets, `early` and `stopping` hear signals, `closing` ends everything in order,
`warming` keeps the state true while a fork server is made, `process` is about the process itself.
"""
