"""What `init` and `status` share: whom they ask, what they send, what they show.

Knows `client` and `errors`. Begin with `target`.
"""
