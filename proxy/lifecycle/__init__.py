"""Pure: what state follows, what an init request means, and what will be done to the world.

Knows `errors`, and the settings' types. Begin with `state` (the one table), then `plan` (all that
an activation will do), `contract` (the wire models) and `gate` (who may pass).
"""
