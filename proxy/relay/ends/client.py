"""The client's side: for each request, ask the gate and pair with a backend.

A connection works on one request at a time. While its response is outstanding, further bytes
are held, up to a bound, so pipelined requests are answered in order and a byte that follows
an upgrade request is neither request nor tunnel until the upstream has decided.

Either side's close is the other's. A client that ends its side while a request is under way is
taken for gone, as the end of a closed connection looks the same, and its upstream connection is
cut; only in a tunnel one direction may outlive the other.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from proxy.lifecycle.gate import FOR_UPSTREAM, Verdict
from proxy.relay.ends.backend import Backend
from proxy.relay.ends.wire import (
    BACKEND_FULL,
    BODY,
    BOTH,
    CLOSED,
    FROM_CLIENT,
    FROM_UPSTREAM,
    HEAD,
    HELD_FULL,
    LINGER,
    STATES,
    TUNNEL,
    WAIT,
)
from proxy.relay.exchange.conversation import Unserved
from proxy.relay.http.body import RequestBody
from proxy.relay.http.fields import CHUNKED
from proxy.relay.http.limits import HIGH_WATER, KNOWN_SIZE, LARGE_READ
from proxy.relay.patience.wheel import NEVER
from proxy.relay.telling.tally import SWITCHING

if TYPE_CHECKING:
    import asyncio

    from proxy.relay.exchange.follower import Follower
    from proxy.relay.http.head import RequestHead
    from proxy.relay.relay import Relay

_RELAY: Final = Verdict.RELAY  # once looked up: in its class that is slow, and each request asks


class Client(Unserved):
    """One client connection."""

    __slots__ = ("_control", "_upstream")

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._upstream: Backend | None = None
        self._control: Backend | None = None

    # What the event loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport = cast("asyncio.Transport", transport)  # no class of uvloop's
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self.forwarding = self.relay.peers.forwarding(transport.get_extra_info("peername"))
        self.relay.admit(self)

    def data_received(self, data: bytes) -> None:
        size = len(data)
        self.received += size
        state = self.state
        if size >= LARGE_READ and self._of_small_things():
            self.take_turns()
        if state == HEAD and not self.stalled:
            if self.held:
                self.read_more_of_head(data)
            elif size <= KNOWN_SIZE and (head := self.relay.heads.known.get(data)) is not None:
                self.begin(head, b"")  # the way of most requests, and the short one
            else:
                self.read(data)
        elif state == TUNNEL and self._active is not None:
            self._active.write(data)
        elif state == BODY:
            self.read(data)
        elif state in {WAIT, HEAD}:
            self.hold(data)
        elif state == LINGER:
            self.linger(size)

    def _of_small_things(self) -> bool:
        """Whether what is read next may be cut into very many pieces: heads, or chunks."""
        head = self.head
        chunks = head is not None and head.length == CHUNKED
        return self.state == HEAD or (self.state == BODY and chunks)

    def eof_received(self) -> bool:
        if self.state == TUNNEL:
            return self._end_direction(FROM_CLIENT)
        self.let_go()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self.state == TUNNEL:
            self.relay.tunnels -= 1
            if exc is not None and not self.cause:
                self.cause = "client"
            if self._active is not None:
                self._active.end_tunnel(reset=exc is not None)
            self._active = self._upstream = None
        self.state = CLOSED
        self.let_go()
        self.relay.forget(self)

    # Exchanges.

    def begin(self, head: RequestHead, rest: bytes) -> bytes:
        relay = self.relay
        relay.requests += 1
        self.deadline = NEVER
        self.head = head
        self.request_id = head.request_id or self.made_id()
        if relay.watched:
            self.began = monotonic()
        self._body = RequestBody(head.length) if head.length else None
        self._responded = self._timed = False
        self._last = not head.keep_alive
        return self.dispatch(relay.gate(head.method, head.target), head, rest)

    def dispatch(self, verdict: Verdict, head: RequestHead, rest: bytes) -> bytes:
        relay = self.relay
        if relay.admits is not None and verdict in FOR_UPSTREAM and not relay.admits(head):
            verdict = Verdict.UNAUTHORIZED
        if verdict is _RELAY:
            backend = self._upstream
            if backend is None:
                backend = self._upstream = relay.open(Backend(self, control=False))
        elif verdict is Verdict.CONTROL:
            backend = self._control
            if backend is None:
                backend = self._control = relay.open(Backend(self, control=True))
        else:
            return self.turn_away(verdict, head, rest)
        self._active = backend
        backend.begin(head)
        upstream = verdict is _RELAY
        out = head.forward(self.forwarding, self.request_id, upstream=upstream)
        if self._body is None:
            self.state = WAIT
            backend.write(out)
            return rest
        self.state = BODY
        return self.read_body(rest, out)

    # What the backend reports.

    def response_ended(self, *, keep: bool) -> None:
        """The response is complete; not `keep`: the backend closes."""
        self._responded = True
        if not keep:
            if self._active is self._upstream:
                self._upstream = None
                self._last = True
            else:
                self._control = None
        if self.state == WAIT:
            if self.held and self.head is not None and self.head.upgrade:
                self._last = True  # meant for a tunnel that did not come about
            self.end_exchange()
            if self.state == HEAD and self.held:
                self.read_held()
        elif self._last or not keep or self._body_in_doubt():
            self.finish()

    def _body_in_doubt(self) -> bool:
        # The client was told the end before it was told to continue: whether its body comes
        # at all is open, so what follows has two readings (RFC 9110 section 10.1.1).
        head, body = self.head, self._body
        return head is not None and head.expects and body is not None and not body.begun

    def end_exchange(self) -> None:
        if self.began:
            self.told()
        self._active = self.head = self._body = None
        if self._last or self.relay.draining:
            self.finish()
            return
        self.state = HEAD
        self.status = 0
        self.relay.wheel.arm(self, self.relay.idle_ticks)

    def failed(self, status: int, why: str) -> None:
        """The backend has no answer, or one that cannot be passed on."""
        if self.status:
            self.cause = "upstream"
            self.finish()
        else:
            self.refuse(status, why)

    def truncated(self, *, reset: bool) -> None:
        """The response ends before its end; the client must see that it does."""
        self.cause = "upstream"
        if reset:
            self.reset()
        else:
            self.finish()

    def vanish(self) -> None:
        """A kept connection died under a request: the client may ask again, as it would then."""
        self.cause = "upstream"
        self.finish()

    def backend_left(self, backend: Follower) -> None:
        """An idle backend closed."""
        if backend is self._control:
            self._control = None
            return
        self._upstream = None
        if self.state == HEAD or backend is self._active:
            self.finish()  # nobody is left to take the rest of a body that was answered early
        else:
            self._last = True

    def backend_full(self) -> None:
        self.pause(BACKEND_FULL)

    def backend_drained(self) -> None:
        self.resume(BACKEND_FULL)

    # Tunnels.

    def may_tunnel(self) -> bool:
        return self.state == WAIT

    def tunnel_opened(self) -> None:
        self.state = TUNNEL
        self.relay.tunnels += 1
        self.status = SWITCHING
        self._responded = True
        if self.began:
            self.tunnel_begins()
        if not self.began:
            self.head = None
        if self._control is not None:
            self._control.close(at_once=False)
            self._control = None
        if self.held and self._active is not None:
            self._active.write(bytes(self.held))
        self.held = bytearray()
        self.resume(HELD_FULL)

    def tunnel_ended(self) -> bool:
        """The upstream's direction is over; whether its connection stays open."""
        return self._end_direction(FROM_UPSTREAM)

    def tunnel_lost(self, *, reset: bool) -> None:
        """The upstream's connection is gone."""
        self._active = self._upstream = None
        if reset:
            self.cause = "upstream"
            self.reset()
        else:
            self.transport.close()

    def _end_direction(self, direction: int) -> bool:
        self.ended |= direction
        if direction == FROM_UPSTREAM:
            self.write_eof()
        elif self._active is not None:
            self._active.write_eof()
        return self.ended != BOTH

    # Ending.

    def drain(self) -> None:
        """Close if no request is under way; one that is ends the connection."""
        if self.state == HEAD:
            self.close()
        elif self in self.relay.parking:
            self.go_on(Verdict.CLOSE)

    def let_go(self) -> None:
        """Close the backends: at once where an answer is still owed."""
        if self.began:
            self.told(self.cause or ("" if self._responded else "client"))
        for backend in (self._upstream, self._control):
            if backend is not None:
                backend.close(at_once=backend is self._active)
        self._upstream = self._control = self._active = None
        self.relay.parking.forget(self)
        self.relay.hangups.forget(self)

    def __repr__(self) -> str:
        return f"<Client {STATES[self.state]} {self.head!r} {self._active!r}>"
