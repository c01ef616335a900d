"""One request and its answer, by the name that every log of it has in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from proxy.relay.endpoint import Endpoint

if TYPE_CHECKING:
    from proxy.relay.head import RequestHead
    from proxy.relay.relay import Relay


class Exchange(Endpoint):
    """The present request of a connection; `request_id` is the client's own, or made here."""

    __slots__ = ("_head", "_made", "_stem", "request_id")

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._head: RequestHead | None = None
        self.request_id = b""
        self._stem = b""  # what all names that this connection makes begin with
        self._made = 0

    def made_id(self) -> bytes:
        """A name that no other request has: random for the connection, then counted."""
        if not self._stem:
            self._stem = os.urandom(8).hex().encode()
        self._made = made = self._made + 1
        return b"%b-%x" % (self._stem, made)
