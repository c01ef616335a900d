"""One request and its answer, as the access log and the metrics will tell of it.

Followed only while there is somebody to tell (`Relay.watched`): then `began` is the time at which
the head was complete, and 0 again when the end has been told. Whatever way a request ends, it is
through `told`, once.
"""

from __future__ import annotations

import random
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.ends.wire import Endpoint
from proxy.relay.telling.tally import CONTROL, PROXY, SWITCHING, UPSTREAM

if TYPE_CHECKING:
    from proxy.relay.ends.backend import Backend
    from proxy.relay.http.body import RequestBody
    from proxy.relay.http.forwarding import Forwarding
    from proxy.relay.http.head import RequestHead
    from proxy.relay.relay import Relay


class Exchange(Endpoint):
    """The present request of a connection; `request_id` is the client's own, or made here.

    `status` is that of the final response, 0 until its head was passed on; `refused` why the
    proxy answered itself; `received` and `returned` are the bytes of the whole connection, from
    the client and from the backends or ourselves.
    """

    __slots__ = (
        "_active",
        "_body",
        "_made",
        "_received_before",
        "_responded",
        "_returned_before",
        "_stem",
        "began",
        "first",
        "forwarding",
        "head",
        "received",
        "refused",
        "request_id",
        "returned",
        "status",
    )

    forwarding: Forwarding

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self.head: RequestHead | None = None
        self._body: RequestBody | None = None
        self._active: Backend | None = None  # the one that answers
        self._responded = False  # the response is complete
        self.status = 0
        self.refused = ""
        self.request_id = b""
        self._stem = b""  # what all ids that this connection makes begin with
        self._made = 0
        self.began = self.first = 0.0  # `first`: when the final response began
        self.received = self.returned = 0
        self._received_before = self._returned_before = 0

    def made_id(self) -> bytes:
        """An id that no other request has: random for the connection, then counted."""
        if not self._stem:
            self._stem = b"%016x" % random.getrandbits(64)
        self._made = made = self._made + 1
        return b"%b-%x" % (self._stem, made)

    # The way of a watched request.

    def told(self, cut: str = "") -> None:
        """It is over; `cut`: by whom, when not by itself."""
        end = monotonic() - self.began
        first = self.first - self.began if self.first else end
        relay = self.relay
        if relay.tally is not None and self.status != SWITCHING:
            method = b"" if self.head is None else self.head.method
            relay.tally.count(self.source(), method, self.status, first, end)
            if cut:
                relay.tally.cut[cut] += 1
        if relay.access is not None:
            relay.access.write(self, first=first, end=end, cut=cut)
            self._returned_before = self.returned
        self.began = self.first = 0.0
        self.refused = ""

    def tunnel_begins(self) -> None:
        """It becomes a tunnel: the metrics hear of it at once, the log when it ends."""
        relay = self.relay
        now = self.first = monotonic()
        if relay.tally is not None and self.head is not None:
            relay.tally.count_tunnel(self.head.method, now - self.began)
        self._received_before = self.received - len(self.held)
        if relay.access is None:
            self.began = 0.0

    # What the access log asks.

    @property
    def tunnelled(self) -> bool:
        return self.status == SWITCHING

    def bytes_in(self) -> int:
        size = 0 if self.head is None else len(self.head.raw)
        if self.tunnelled:
            return size + self.received - self._received_before
        return size if self._body is None else size + self._body.size

    def bytes_out(self) -> int:
        return self.returned - self._returned_before

    def source(self) -> int:
        """Who answers, or would have."""
        active = self._active
        if active is None or self.refused:
            return PROXY
        return CONTROL if active.control else UPSTREAM
