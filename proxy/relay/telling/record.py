"""One request and its answer, as the access log and the metrics will tell of it.

Followed only while there is somebody to tell (`Telling.watched`): then `began` is the time at
which the head was complete, and 0 again when the end has been told. Whatever way a request ends,
it is through `tell`, once.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from proxy.relay.exchange.conversation import SWITCHING

if TYPE_CHECKING:
    from proxy.relay.exchange.conversation import Conversation
    from proxy.relay.telling.accesslog import AccessLog
    from proxy.relay.telling.tally import Tally


class Telling:
    """Who hears of requests."""

    def __init__(self, tally: Tally | None, access: AccessLog | None) -> None:
        self.tally = tally
        self.access = access
        self.watched = tally is not None or access is not None

    def count_no_more(self) -> None:
        """Nobody will ask for the tally."""
        self.tally = None
        self.watched = self.access is not None


@dataclass(slots=True, eq=False)
class Record:
    """The requests of one connection; `received` and `returned` are the bytes of all of it."""

    _telling: Telling
    began: float = 0.0
    first: float = 0.0  # when the final answer began
    received: int = 0
    returned: int = 0
    _received_before: int = 0
    _returned_before: int = 0

    def tell(self, talk: Conversation, cut: str = "") -> None:
        """It is over; `cut`: by whom, when not by itself."""
        end = monotonic() - self.began
        first = self.first - self.began if self.first else end
        tally, access = self._telling.tally, self._telling.access
        if tally is not None and talk.status != SWITCHING:
            method = b"" if talk.head is None else talk.head.method
            tally.count(talk.source, method, talk.status, first, end)
            if cut:
                tally.cut[cut] += 1
        if access is not None:
            sizes = self._bytes_in(talk), self.returned - self._returned_before
            access.write(talk, sizes, first=first, end=end, cut=cut)
            self._returned_before = self.returned
        self.began = self.first = 0.0

    def tunnel(self, talk: Conversation) -> None:
        """It becomes a tunnel: the metrics hear of it at once, the log when it ends."""
        now = self.first = monotonic()
        tally = self._telling.tally
        if tally is not None and talk.head is not None:
            tally.count_tunnel(talk.head.method, now - self.began)
        self._received_before = self.received - len(talk.intake.held)
        if self._telling.access is None:
            self.began = 0.0

    def _bytes_in(self, talk: Conversation) -> int:
        size = 0 if talk.head is None else len(talk.head.raw)
        if talk.status == SWITCHING:
            return size + self.received - self._received_before
        body = talk.intake.body
        return size if body is None else size + body.size
