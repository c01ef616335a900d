"""Requests that no backend answers, or not yet: refused, or parked until the state has changed.

What follows a parked head is held as behind any request that is under way, so a body is bounded
however large it is, and the client waits as it would for a slow answer.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING

from proxy.lifecycle.gate import FOR_UPSTREAM, Verdict
from proxy.relay.ends.wire import BODY, HEAD, WAIT
from proxy.relay.exchange.intake import Intake
from proxy.relay.exchange.refusals import GATE_REASONS, Refusal, detail, error_reason, render
from proxy.relay.http.limits import DISCARDED

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead
    from proxy.relay.relay import Relay


class Unserved(Intake):
    """The present request, and the answers that the relay gives to it itself."""

    __slots__ = ("_last",)

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._last = False  # the connection ends with this exchange

    def dispatch(self, verdict: Verdict, head: RequestHead, rest: bytes) -> bytes:
        """Do with a request what the gate says; what of `rest` is still unread."""
        raise NotImplementedError

    def judged(self) -> Verdict:
        """What the gate says of the present request by this time."""
        head = self.head
        return Verdict.REFUSE if head is None else self.relay.gate(head.method, head.target)

    def go_on(self, verdict: Verdict) -> None:
        """Do with a parked request what `verdict` says."""
        self.relay.parking.forget(self)
        head = self.head
        if head is None:
            return
        if verdict not in FOR_UPSTREAM and len(self.held) > head.length:
            self._last = True  # the requests behind it came for the same upstream
        self.dispatch(verdict, head, b"")
        if self.held and self.state in {BODY, HEAD}:
            self.read_held()

    def turn_away(self, verdict: Verdict, head: RequestHead, rest: bytes) -> bytes:
        """Park it, or answer in the backend's place; what is left to read."""
        self._active = None
        if verdict is Verdict.HOLD:
            self.state = WAIT
            self.relay.parking.add(self)
            return rest
        # A body is dropped to keep the connection, if its size is known and small, and it is
        # sure to come.
        dropped = 0 <= head.length <= DISCARDED and not (head.length and head.expects)
        close = verdict is Verdict.CLOSE or self._last or head.upgrade or not dropped
        status = 401 if verdict is Verdict.UNAUTHORIZED else 503
        refusal = self.relay.refuse(verdict, head)
        bodiless = head.method == b"HEAD"
        answer = render(status, refusal, self.request_id, close=close, bodiless=bodiless)
        self._answer(status, GATE_REASONS[verdict], answer)
        self.state = WAIT if self._body is None else BODY
        if close:
            self.held += rest
            self.finish()
            return b""
        if self._body is not None:
            rest = self.read_body(rest)
        else:
            self.end_exchange()
        if rest and self.state == HEAD:
            # Nobody else has had a turn since it was read, and there may be thousands behind it.
            self.state = WAIT
            asyncio.get_running_loop().call_soon(self._go_on_reading)
        return rest

    def _go_on_reading(self) -> None:
        if self.state != WAIT:  # it has ended meanwhile
            return
        self.end_exchange()
        if self.state == HEAD:
            self.read_held()

    def refuse(self, status: int, why: str) -> None:
        """Answer with an error if that is still possible, and end the connection."""
        if not self.status:
            bodiless = self.head is not None and self.head.method == b"HEAD"
            if self.head is None:
                self.request_id = self.made_id()
                if self.relay.watched:
                    self.began = monotonic()
            refusal = Refusal(detail(why))
            answer = render(status, refusal, self.request_id, close=True, bodiless=bodiless)
            self._answer(status, error_reason(status), answer)
        if self.state == HEAD:
            self.state = BODY  # what follows a head that was refused has no reading
        self.finish()

    def _answer(self, status: int, reason: str, answer: bytes) -> None:
        self.relay.refusals[reason] += 1
        self.refused = reason
        self.transport.write(answer)
        self.returned += len(answer)
        self.status = status
        self._responded = True
