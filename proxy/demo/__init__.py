"""The embedded sample agent server, and the guided tour of the life cycle in front of it."""
