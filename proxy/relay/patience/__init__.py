"""How long is waited, and who is looked after meanwhile: the clocks of the relay.

Knows the verdicts of the gate, and of connections only the few methods that each file names.
Begin with `wheel` (one timer for all timeouts); `parking` keeps requests until the upstream is
ready, `hangups` finds clients that have gone unseen, `budget` bounds what is kept for all of them.
"""
