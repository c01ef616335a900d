"""Who serves the requests of one client: the upstream, the control plane, or we ourselves.

What that means for the client's connection is returned, as the conversation says it.
"""

from __future__ import annotations

from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, Protocol

from proxy.lifecycle.gate import FOR_UPSTREAM, Verdict
from proxy.relay.ends.backend import Backend, Owner
from proxy.relay.exchange.conversation import CONTROL, PATIENCE, UPSTREAM
from proxy.relay.exchange.follower import GONE, Follower
from proxy.relay.exchange.intake import TUNNEL, Fault
from proxy.relay.exchange.refusals import GATE_REASONS, Refusal, detail, error_reason, render
from proxy.relay.patience.parking import Parked
from proxy.relay.patience.wheel import Timed

if TYPE_CHECKING:
    import asyncio

    from proxy.relay.ends.shared import Shared
    from proxy.relay.ends.wire import Wire
    from proxy.relay.exchange.conversation import Conversation
    from proxy.relay.http.head import RequestHead
    from proxy.relay.telling.record import Record

_RELAY: Final = Verdict.RELAY  # once looked up: in its class that is slow, and each request asks
_WAITED_FOR: Final = FOR_UPSTREAM | {Verdict.HOLD}


class Asking(Owner, Parked, Timed, Protocol):
    """The client, as its backends and the parking know it."""


@dataclass(slots=True, eq=False)
class Service:
    """The backends of one client, each opened when it is needed; `active` is the one that answers.

    One that has ended (`GONE`) is replaced when it is needed again.
    """

    _shared: Shared
    _transport: asyncio.Transport
    talk: Conversation
    record: Record
    active: Backend | None = None
    _upstream: Backend | None = None
    _control: Backend | None = None

    def go_on(self, verdict: Verdict, asking: Asking) -> int | Fault:
        """Do with a parked request what `verdict` says."""
        self.look_after_idle()
        self._shared.parking.forget(asking)
        head = self.talk.head
        if head is None:
            return PATIENCE
        self.talk.unpark(verdict, head)
        return self.serve(verdict, head, asking)

    def serve(self, verdict: Verdict, head: RequestHead, asking: Asking) -> int | Fault:
        """Do with a request what the gate says."""
        shared = self._shared
        if shared.admits is not None and verdict in FOR_UPSTREAM and not shared.admits(head):
            verdict = Verdict.UNAUTHORIZED
        if verdict is _RELAY:
            backend = self._upstream
            if backend is None or backend.follower.stage == GONE:
                backend = self._upstream = self._open(asking, UPSTREAM)
        elif verdict is Verdict.CONTROL:
            backend = self._control
            if backend is None or backend.follower.stage == GONE:
                backend = self._control = self._open(asking, CONTROL)
        else:
            return self._turn_away(verdict, head, asking)
        self.active = backend
        out = self.talk.ask(head, backend.source, backend.follower)
        if not isinstance(out, bytes):
            return out
        backend.write(out)
        return PATIENCE

    def look_after_idle(self) -> None:
        """Leave an idle upstream that has left us: its end may be told after a request has come.

        What is written to it then is lost, and cannot be sent again: it may have been served.
        """
        backend = self._upstream
        if backend is not None and backend.left():
            backend.close(at_once=True)

    def _open(self, asking: Asking, source: int) -> Backend:
        backend = Backend(asking, source, Follower(self._shared.responses))
        self._shared.dialler.open(backend)
        return backend

    def _turn_away(self, verdict: Verdict, head: RequestHead, asking: Asking) -> int:
        """Park it, or answer in the backend's place."""
        self.active = None
        self.talk.alone()
        if verdict is Verdict.HOLD:
            self.talk.intake.park()
            self._shared.parking.add(asking)
            return PATIENCE
        follows = self.talk.turn_away(verdict, head)
        refusal = self._shared.refuse(verdict, head)
        status = refusal.status or (401 if verdict is Verdict.UNAUTHORIZED else 503)
        self._answer(status, GATE_REASONS[verdict], refusal)
        return follows

    def pass_on(self, part: bytes) -> int:
        """A part of the request body."""
        if part and self.active is not None:
            self.active.write(part)
        return self.talk.passed_on()

    def deserted(self, head: RequestHead) -> bool:
        """Whether it is not served although its client, which has ended its side, waits for it."""
        if self._shared.answers_half_closed:
            return False
        return self._shared.gate(head.method, head.target) in _WAITED_FOR

    def judged(self) -> Verdict:
        """What the gate says of the present request by this time."""
        head = self.talk.head
        return Verdict.REFUSE if head is None else self._shared.gate(head.method, head.target)

    def refuse(self, status: int, why: str) -> None:
        """Answer with an error if that is still possible."""
        talk = self.talk
        if talk.status:
            return
        if talk.head is None:
            talk.request_id = talk.made_id()
            if self._shared.telling.watched:
                self.record.began = monotonic()
        talk.last = True
        self._answer(status, error_reason(status), Refusal(detail(why)))

    def _answer(self, status: int, reason: str, refusal: Refusal) -> None:
        talk = self.talk
        if talk.head is not None and (more := self._shared.headers(talk.head)):
            refusal = refusal._replace(headers=refusal.headers + more)
        answer = render(status, refusal, talk.request_id, close=talk.last, bodiless=talk.bodiless)
        self._shared.refusals[reason] += 1
        self._transport.write(answer)
        self.record.returned += len(answer)
        talk.answered_by_us(status, reason)

    def too_slow(self, wire: Wire, asking: Asking) -> int | Fault:
        """A time has run out."""
        talk = self.talk
        if talk.intake.stage != TUNNEL:
            follows = talk.too_slow(stuck=wire.stuck(), paused=bool(wire.pauses))
            ticks = self._shared.idle_ticks
        else:
            idle = wire.idle(self.record.received + self.record.returned)
            follows = talk.abandon() if idle else PATIENCE
            ticks = self._shared.tunnel_ticks
        if follows == PATIENCE:
            self._shared.wheel.arm(asking, ticks)
        return follows

    def open_tunnel(self, asking: Asking) -> None:
        self._shared.tunnels += 1
        if ticks := self._shared.tunnel_ticks:
            self._shared.wheel.arm(asking, ticks)
        if self.record.began:
            self.record.tunnel(self.talk)
        if not self.record.began:
            self.talk.head = None
        self.leave_control()
        held = self.talk.intake.leave(TUNNEL)
        if held and self.active is not None:
            self.active.write(held)

    def leave_control(self) -> None:
        """Close the way to the control plane, which keeps its last request for as long."""
        if self._control is not None:
            self._control.close(at_once=False)

    def end_tunnel(self, *, reset: bool) -> None:
        """The client's connection is gone; `reset`: by an accident."""
        self._shared.tunnels -= 1
        if reset and not self.talk.cause:
            self.talk.cause = "client"
        if self.active is not None:
            self.active.end_tunnel(reset=reset)

    def outlived(self, wire: Wire, *, left: bool, over: bool) -> int:
        """The upstream is gone (`left`), and the next one is another's (`over`)."""
        follows = self.talk.outlived(unread=wire.unread()) if over else PATIENCE
        if left and not follows and self._upstream is not None:
            return self.talk.forsaken()
        return follows

    def half_closed(self, wire: Wire) -> bool:
        """The client sends no more; whether it is answered all the same."""
        answers = self._shared.answers_half_closed
        return self.talk.half_closed(answers=answers, stalled=wire.stalled)

    def let_go(self) -> None:
        """Close the backends: at once where an answer is still owed."""
        if self.record.began:
            self.record.tell(
                self.talk, self.talk.cause or ("" if self.talk.responded else "client")
            )
        for backend in (self._upstream, self._control):
            if backend is not None and backend.follower.stage != GONE:
                backend.close(at_once=backend is self.active)
        self._upstream = self._control = self.active = self.talk.head = None
