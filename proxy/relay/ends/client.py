"""The client's side: reads, has what it has read served, and does what follows."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from proxy.lifecycle.gate import Verdict
from proxy.relay.ends import wire as lines
from proxy.relay.ends.ending import Ending
from proxy.relay.ends.service import Service
from proxy.relay.exchange import conversation as follow
from proxy.relay.exchange.conversation import OVER, Conversation
from proxy.relay.exchange.follower import BEGUN, ENDED, MORE, SWITCHED
from proxy.relay.exchange.intake import BODY, CLOSED, HEAD, LINGER, TUNNEL, WAIT, Fault, Intake
from proxy.relay.http.head import RequestHead
from proxy.relay.http.limits import HELD, HIGH_WATER, LARGE_READ
from proxy.relay.patience.budget import FREE, Share
from proxy.relay.patience.wheel import NEVER
from proxy.relay.telling.record import Record

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.relay.ends.backend import Backend
    from proxy.relay.ends.shared import Shared

_TOO_MUCH: Final = "too much is kept for clients that wait"
_WORKING: Final = frozenset({HEAD, BODY, WAIT})


@dataclass(slots=True, eq=False)
class Client(asyncio.Protocol):
    """One client connection; whoever keeps it hears when it is made and when it is lost."""

    _shared: Shared
    gate: Callable[[bytes, bytes], Verdict]
    _made: Callable[[Client], None]
    _lost: Callable[[Client], None]
    deadline: int = NEVER  # the wheel's
    slot: int = NEVER
    _timed: bool = True  # the time for the head to come runs, at first since the connect
    record: Record = field(init=False)
    talk: Conversation = field(init=False)
    _intake: Intake = field(init=False)
    _service: Service = field(init=False)
    _share: Share = field(init=False)
    _ending: Ending = field(init=False)
    _transport: asyncio.Transport = field(init=False)
    wire: lines.Wire = field(init=False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport = cast("asyncio.Transport", transport)  # no class of uvloop's
        shared, self._share = self._shared, Share(self._shared.budget)
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self.wire = wire = lines.Wire(transport, self, shared.hangups)
        peer = shared.peers.forwarding(transport.get_extra_info("peername"))
        self._intake = intake = Intake(shared.heads)
        self.talk = Conversation(intake, peer)
        self.record = Record(shared.telling)
        self._service = service = Service(shared, transport, self.talk, self.record)
        self._ending = Ending(self, shared, intake, service, wire, self._share)
        self._made(self)

    def data_received(self, data: bytes) -> None:
        self.record.received += (size := len(data))
        intake = self._intake
        if not self.wire.stalled and (head := intake.whole(data)) is not None:
            self._begin(head)
            return
        stage = intake.stage
        if size >= LARGE_READ and intake.fine:
            self.wire.pause(lines.OTHERS_TURN)  # read on when the others have had their turn
            self._shared.loop.call_soon(self.wire.resume, lines.OTHERS_TURN)
        if stage == BODY or (stage == HEAD and not self.wire.stalled):
            self._read(data)
        elif stage == TUNNEL:
            if self._service.active is not None:
                self._service.active.write(data)
        elif stage == LINGER:
            self.wire.drop(size)
        elif stage != CLOSED:
            intake.held += data
            self._mind_the_held()

    def eof_received(self) -> bool:
        if self._intake.stage == TUNNEL:
            if self._service.active is not None:
                self._service.active.write_eof()
            return self.wire.end(lines.FROM_CLIENT)
        if self._service.half_closed(self.wire):
            return self.wire.end(lines.FROM_CLIENT)
        self._ending.let_go()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._intake.stage == TUNNEL:
            self._service.end_tunnel(reset=exc is not None)
        self._intake.stage = CLOSED
        self._ending.let_go()
        self._lost(self)

    def pause_writing(self) -> None:
        self.wire.stall()
        self._shared.loop.call_soon(self._mind_the_held)
        if self._service.active is not None:
            self._service.active.pause()
        if self._intake.stage == WAIT:
            self._shared.wheel.arm(self, self._shared.idle_ticks)

    def resume_writing(self) -> None:
        self.wire.stalled = False
        if self._intake.stage == WAIT:
            self._shared.wheel.disarm(self)
        if self._service.active is not None:
            self._service.active.resume()
        else:
            self._read_held()

    def _read(self, data: bytes = b"") -> None:
        """Work on what has come, until something has to be waited for."""
        intake = self._intake
        event = intake.read(data)
        while event is not None:
            if isinstance(event, RequestHead):
                if self.talk.ended and self._service.deserted(event):
                    self._ending.close()
                # Before the control plane has a copy of it.
                elif len(event.raw) <= FREE or self._share.charge(2 * len(event.raw)):
                    self._begin(event)
                else:
                    self.talk.begin(event)
                    self.refuse(503, _TOO_MUCH)
            elif isinstance(event, bytes):
                self._mind_the_body(self._service.pass_on(event))
            else:
                self._follow(event)
            may_read = intake.held and not (intake.stage == HEAD and self.wire.stalled)
            event = intake.read() if may_read else None
        self._mind_the_held()

    def _begin(self, head: RequestHead) -> None:
        shared = self._shared
        shared.requests += 1
        # Which is armed at the end of each exchange: it has been idle for a while.
        if self.deadline < shared.wheel.tick + shared.idle_ticks:
            self._service.look_after_idle()
        self.deadline = NEVER
        self._timed = False
        self.talk.begin(head)
        if shared.telling.watched:
            self.record.began = monotonic()
        follows = self._service.serve(self.gate(head.method, head.target), head, self)
        if follows or head.length:
            self._mind_the_body(follows)

    def _read_held(self) -> None:
        if self._intake.held and self._intake.stage in {HEAD, BODY} and not self.wire.stalled:
            self._read()

    def _mind_the_held(self) -> None:
        intake = self._intake
        if intake.stage not in _WORKING:
            return
        if self.talk.cut_short and not self.wire.stalled:
            self._ending.close()
            return
        kept = self.talk.kept(self.wire.unsent())
        if not self._share.charge(kept, reserve=self.talk.privileged):
            self._keep_no_more()
        elif len(intake.held) > HELD:
            self.wire.pause(lines.HELD_FULL)
        else:
            self.wire.resume(lines.HELD_FULL)
        if intake.stage == HEAD and intake.held and not self._timed:
            self._timed = True
            self._shared.wheel.arm(self, self._shared.head_ticks)

    def _keep_no_more(self) -> None:
        if self.talk.status or self.wire.stalled:
            self.talk.cause = "limit"
            self.abort()
        else:
            self.refuse(503, _TOO_MUCH)

    def _mind_the_body(self, follows: int | Fault) -> None:
        if self._intake.stage == BODY:
            self._shared.wheel.arm(self, self._shared.idle_ticks)
        elif self._intake.stage == WAIT:
            self._shared.wheel.disarm(self)
        self._follow(follows)

    def _follow(self, follows: int | Fault) -> None:
        if isinstance(follows, Fault):
            self.refuse(*follows)
        elif follows == OVER:
            if self._service.active is None and self._intake.held:
                # We have answered, and nobody else has had a turn since the request was read;
                # there may be thousands behind it.
                self._shared.loop.call_soon(self._take_turn)
            else:
                self._end_exchange()
        elif follows == follow.FINISH:
            self._ending.finish()
        elif follows == follow.CLOSE:
            self._ending.close()
        elif follows:
            if follows == follow.RESET:
                lines.reset_on_close(self._transport)
            self._ending.abort()

    def _take_turn(self) -> None:
        if self._intake.stage == WAIT:  # it has not ended meanwhile
            self._end_exchange()
            self._read_held()

    def _end_exchange(self) -> None:
        if self.record.began:
            self.record.tell(self.talk)
        self._service.active = None
        if self._share.size:
            self._service.leave_control()
            self._share.charge(len(self._intake.held))
        if self.talk.last or self._shared.draining:
            self._ending.finish()
        else:
            self.talk.next()
            self._shared.wheel.arm(self, self._shared.idle_ticks)

    def refuse(self, status: int, why: str) -> None:
        """Answer with an error if that is still possible, and end the connection."""
        self._service.refuse(status, why)
        if self._intake.stage == HEAD:
            self._ending.linger()  # what follows a head that was refused has no reading
        else:
            self._ending.finish()

    def answered(self, backend: Backend, answer: bytes) -> None:
        self.record.returned += len(answer)
        self._transport.write(answer)
        self.talk.answered_whole(backend.follower)
        self._end_exchange()
        if self._intake.held:
            self._read_held()

    def heard(self, backend: Backend, event: int, out: bytes) -> None:
        record = self.record
        if out:
            record.returned += len(out)
            self._transport.write(out)
        if event == ENDED:
            after = self.talk.answered(backend.follower)
            if after == OVER:  # the way of most answers, and the short one
                self._end_exchange()
                if self._intake.held:
                    self._read_held()
            else:
                self._follow(after)
        elif event != MORE:
            follows = self.talk.heard(backend.follower, backend.source, event)
            if event == BEGUN and record.began:
                record.first = monotonic()
            elif event == SWITCHED:
                self._service.open_tunnel(self)
                self.wire.resume(lines.HELD_FULL)
            self._follow(follows)

    def judged(self) -> Verdict:
        return self._service.judged()

    def go_on(self, verdict: Verdict) -> None:
        self._mind_the_body(self._service.go_on(verdict, self))
        self._read_held()
        self._mind_the_held()

    def expired(self) -> None:
        self._follow(self._service.too_slow(self.wire, self))

    def hung_up(self, *, broken: bool) -> None:
        """What a read would have told. In a tunnel one direction may end before the other."""
        if broken:
            self._ending.abort()
        elif self._intake.stage != TUNNEL:
            self._ending.close()

    def outlive(self, *, left: bool, over: bool) -> None:
        self._follow(self._service.outlived(self.wire, left=left, over=over))

    def drain(self) -> None:
        """Close if no request is under way; one that is ends the connection."""
        if self._intake.stage == HEAD:
            self._ending.close()
        elif self in self._shared.parking:
            self.go_on(Verdict.CLOSE)

    def abort(self) -> None:
        self._ending.abort()
