"""The client's side: read request heads, ask the gate, pair with a backend.

A connection works on one request at a time. While its response is outstanding, further bytes
are held, up to a bound, so pipelined requests are answered in order and a byte that follows
an upgrade request is neither request nor tunnel until the upstream has decided.

Either side's close is the other's. A client that ends its side while a request is under way is
taken for gone, as the end of a closed connection looks the same, and its upstream connection is
cut; only in a tunnel one direction may outlive the other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from proxy.lifecycle.gate import Verdict
from proxy.relay.backend import Backend, reset_on_close
from proxy.relay.chunks import ChunkError, ChunkReader
from proxy.relay.head import CHUNKED, HeadError, RequestHead, forwarded_trailers
from proxy.relay.limits import DISCARDED, HELD, HIGH_WATER, LINGER_BYTES
from proxy.relay.refusals import Refusal, detail, render

if TYPE_CHECKING:
    from proxy.relay.relay import Relay

# What the client's next bytes are: a head, a body, early (held), a tunnel's, or thrown away.
_HEAD, _BODY, _WAIT, _TUNNEL, _LINGER, _CLOSED = range(6)
_NAMES: Final = ("head", "body", "wait", "tunnel", "linger", "closed")

# Why reading is paused; it goes on when no reason is left.
_BACKEND_FULL: Final = 1
_HELD_FULL: Final = 2

_BLANK_LINE: Final = b"\r\n"


class Client(asyncio.Protocol):
    """One client connection; `answered` once the head of a final response was passed on."""

    __slots__ = (
        "_active",
        "_backlog",
        "_body_begun",
        "_chunks",
        "_control",
        "_ended",
        "_forwarding",
        "_head",
        "_held",
        "_last",
        "_left",
        "_lingered",
        "_pauses",
        "_responded",
        "_stalled",
        "_state",
        "_timed",
        "_upstream",
        "answered",
        "deadline",
        "relay",
        "slot",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.deadline = self.slot = 0  # the wheel's
        self._state = _HEAD
        self._held = bytearray()
        self._head: RequestHead | None = None
        self._left = 0  # bytes of the request body to come
        self._chunks: ChunkReader | None = None  # or its chunks
        self._body_begun = False
        self._upstream: Backend | None = None
        self._control: Backend | None = None
        self._active: Backend | None = None  # the one that answers the present request
        self.answered = False
        self._responded = False  # the response is complete
        self._last = False  # the connection ends with this exchange
        self._pauses = 0
        self._stalled = False  # the client does not read what it asked for
        self._backlog = 0  # bytes it had not read when it was last looked at
        self._timed = True  # the time for the head to come runs, at first since the connect
        self._lingered = 0
        self._ended = 0  # directions of the tunnel that are over

    @property
    def tunnel(self) -> bool:
        return self._state == _TUNNEL

    # What the event loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self.transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._forwarding = self.relay.peers.forwarding(transport.get_extra_info("peername"))
        self.relay.admit(self)

    def data_received(self, data: bytes) -> None:
        self.relay.bytes_in += len(data)
        state = self._state
        if state == _TUNNEL:
            assert self._active is not None  # noqa: S101  a tunnel has two ends
            self._active.write(data)
        elif state == _BODY or (state == _HEAD and not self._stalled and not self._held):
            self._read(data)
        elif state == _HEAD and not self._stalled:
            self._read_more_of_head(data)
        elif state in {_WAIT, _HEAD}:
            self._hold(data)
        elif state == _LINGER:
            self._lingered += len(data)
            if self._lingered > LINGER_BYTES:
                self.transport.abort()

    def eof_received(self) -> bool:
        if self._state == _TUNNEL:
            return self._end_direction(1)
        self._let_go()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._state == _TUNNEL:
            self.relay.tunnels -= 1
            if self._active is not None:
                self._active.end_tunnel(reset=exc is not None)
            self._active = self._upstream = None
        self._state = _CLOSED
        self._let_go()
        self.relay.forget(self)

    def pause_writing(self) -> None:
        self._stalled = True
        self._backlog = self.transport.get_write_buffer_size()
        if self._active is not None:
            self._active.pause()
        if self._state == _WAIT:
            self.relay.wheel.arm(self, self.relay.idle_ticks)

    def resume_writing(self) -> None:
        self._stalled = False
        if self._state == _WAIT:
            self.relay.wheel.disarm(self)
        if self._active is not None:
            self._active.resume()
        elif self._state == _HEAD and self._held:
            self._read_held()

    def expired(self) -> None:
        """The wheel: what was waited for did not come in time."""
        if self._state == _TUNNEL:
            return
        backlog = self.transport.get_write_buffer_size()
        if backlog:
            self._judge_slow_reader(backlog)
        elif self._state == _HEAD and not self._held:
            self._close()
        elif self._state == _HEAD:
            self._refuse(408, "the request head took too long")
        elif self._state == _BODY and (self._pauses or (self.answered and not self._responded)):
            # The upstream does not take the body, or streams its answer meanwhile.
            self.relay.wheel.arm(self, self.relay.idle_ticks)
        elif self._state == _BODY and not self.answered:
            self._refuse(408, "the request body stopped")
        else:
            self.abort()

    def _judge_slow_reader(self, backlog: int) -> None:
        """However slow a client reads what it was sent, it is given time; not if it stopped."""
        stuck = backlog >= self._backlog > 0
        self._backlog = backlog
        if stuck:
            self.abort()
        else:
            self.relay.wheel.arm(self, self.relay.idle_ticks)

    # Reading requests.

    def _hold(self, data: bytes) -> None:
        self._held += data
        if len(self._held) > HELD:
            self._pause(_HELD_FULL)

    def _read_held(self) -> None:
        data = bytes(self._held)
        self._held.clear()
        self._resume(_HELD_FULL)
        self._read(data)

    def _read_more_of_head(self, data: bytes) -> None:
        # A head that drips in is looked at again only where a line has ended, else every byte
        # would cost a scan of all before it.
        self._held += data
        if b"\n" in data or len(self._held) > self.relay.limits.head_size:
            self._read_held()

    def _read(self, data: bytes) -> None:
        while data:
            if self._state == _HEAD and not self._stalled:
                data = self._read_head(data)
            elif self._state == _BODY:
                data = self._read_body(data)
            else:
                if self._state in {_HEAD, _WAIT}:
                    self._hold(data)
                return

    def _read_head(self, data: bytes) -> bytes:
        """Begin the request that `data` starts with; what is left of it."""
        while data.startswith(_BLANK_LINE):  # RFC 9112 section 2.2
            data = data[2:]
        if data in {b"", b"\r"}:
            self._held += data
            return b""
        try:
            head = self.relay.reader.read(data)
        except HeadError as error:
            self._refuse(error.status, error.detail)
            return b""
        if head is not None:
            return self._begin(head, data[len(head.raw) :])
        if not self._timed:
            self._timed = True
            self.relay.wheel.arm(self, self.relay.head_ticks)
        self._held += data
        return b""

    def _begin(self, head: RequestHead, rest: bytes) -> bytes:
        relay = self.relay
        relay.requests += 1
        relay.wheel.disarm(self)
        verdict = relay.gate(head.method, head.target)
        self._head = head
        self.answered = self._responded = self._body_begun = self._timed = False
        self._last = not head.keep_alive
        self._left = head.length
        self._chunks = ChunkReader() if head.length == CHUNKED else None
        if verdict is Verdict.RELAY:
            backend = self._upstream
            if backend is None:
                backend = self._upstream = relay.open(Backend(self, control=False))
        elif verdict is Verdict.CONTROL:
            backend = self._control
            if backend is None:
                backend = self._control = relay.open(Backend(self, control=True))
        else:
            return self._turn_away(verdict, head, rest)
        self._active = backend
        backend.begin(head)
        out = head.forward(self._forwarding, upstream=verdict is Verdict.RELAY)
        if head.length == 0:
            self._state = _WAIT
            backend.write(out)
            return rest
        self._state = _BODY
        return self._read_body(rest, out)

    def _read_body(self, data: bytes, prefix: bytes = b"") -> bytes:
        """Pass on the request body, after `prefix`; what follows the body in `data`."""
        chunks = self._chunks
        if chunks is None:
            body = data if len(data) <= self._left else data[: self._left]
            self._left -= len(body)
            done = not self._left
            rest = data[len(body) :]
        else:
            pieces: list[bytes] = []
            try:
                rest = data[chunks.feed(data, pieces) :]
            except ChunkError as error:
                self._refuse(400, str(error))
                return b""
            done = chunks.done
            body = _chunk(b"".join(pieces), chunks)
        self._body_begun = self._body_begun or bool(data)
        if self._active is not None and (prefix or body):
            self._active.write(prefix + body if prefix else body)
        if done:
            self._request_ended()
        else:
            self.relay.wheel.arm(self, self.relay.idle_ticks)
        return rest

    def _request_ended(self) -> None:
        self.relay.wheel.disarm(self)
        self._state = _WAIT
        if self._responded:
            self._exchange_ended()

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
        if self._state == _WAIT:
            self._exchange_ended()
            if self._state == _HEAD and self._held:
                self._read_held()
        elif self._last or not keep or self._unsent_after_refusal():
            self._finish()

    def _unsent_after_refusal(self) -> bool:
        # The client was told the end before it was told to continue: whether its body comes
        # at all is open, so what follows has two readings (RFC 9110 section 10.1.1).
        return self._head is not None and self._head.expects and not self._body_begun

    def _exchange_ended(self) -> None:
        self._active = None
        self._head = None
        if self._last or self.relay.draining:
            self._finish()
            return
        self._state = _HEAD
        self.answered = False
        self.relay.wheel.arm(self, self.relay.idle_ticks)

    def failed(self, status: int, why: str) -> None:
        """The backend has no answer, or one that cannot be passed on."""
        if self.answered:
            self.truncated(reset=False)
        else:
            self._refuse(status, why)

    def truncated(self, *, reset: bool) -> None:
        """The response ends before its end; the client must see that it does."""
        if reset:
            self.reset()
        else:
            self._finish()

    def vanish(self) -> None:
        """A kept connection died under a request: the client may ask again, as it would then."""
        self._finish()

    def backend_left(self, backend: Backend) -> None:
        """An idle backend closed."""
        if backend is self._control:
            self._control = None
            return
        self._upstream = None
        if self._state == _HEAD:
            self._finish()
        else:
            self._last = True

    def backend_full(self) -> None:
        self._pause(_BACKEND_FULL)

    def backend_drained(self) -> None:
        self._resume(_BACKEND_FULL)

    # Tunnels.

    def may_tunnel(self) -> bool:
        return self._state == _WAIT

    def tunnel_opened(self) -> None:
        self._state = _TUNNEL
        self.relay.tunnels += 1
        self.answered = True
        self._head = None
        if self._control is not None:
            self._control.close(at_once=False)
            self._control = None
        if self._held and self._active is not None:
            self._active.write(bytes(self._held))
        self._held = bytearray()
        self._resume(_HELD_FULL)

    def tunnel_ended(self, _backend: Backend) -> bool:
        """The upstream's direction is over."""
        return self._end_direction(2)

    def tunnel_lost(self, *, reset: bool) -> None:
        self._active = self._upstream = None
        if reset:
            self.reset()
        else:
            self.transport.close()
            self.relay.wheel.arm(self, self.relay.flush_ticks)

    def _end_direction(self, direction: int) -> bool:
        """Pass an end on; whether the connection that it came from stays open."""
        self._ended |= direction
        if direction == 1 and self._active is not None:
            self._active.write_eof()
        elif direction == 2:
            self._write_eof()
        return self._ended != 3

    # Ending.

    def _turn_away(self, verdict: Verdict, head: RequestHead, rest: bytes) -> bytes:
        """Answer 503 in the backend's place; what is left to read."""
        close = (
            verdict is Verdict.CLOSE
            or self._last
            or head.upgrade
            or head.length == CHUNKED
            or head.length > DISCARDED
            or (head.expects and bool(head.length))
        )
        refusal = self.relay.refuse(verdict, head)
        bodiless = head.method == b"HEAD"
        self.transport.write(render(503, refusal, close=close, bodiless=bodiless))
        self.answered = self._responded = True
        self._active = None
        if close:
            self._hold(rest)
            self._state = _BODY if head.length else _WAIT
            self._finish()
            return b""
        if head.length:
            self._state = _BODY
            return self._read_body(rest)
        self._state = _WAIT
        self._exchange_ended()
        return rest

    def _refuse(self, status: int, why: str) -> None:
        """Answer with an error if that is still possible, and end the connection."""
        bodiless = self._head is not None and self._head.method == b"HEAD"
        if not self.answered:
            answer = render(status, Refusal(detail(why)), close=True, bodiless=bodiless)
            self.transport.write(answer)
        if self._state == _HEAD:
            self._state = _BODY  # what follows a head that was refused has no reading
        self._finish()

    def _finish(self) -> None:
        """End the connection so that the client gets all that was written."""
        if self._state in {_LINGER, _CLOSED}:
            return
        if self._state in {_HEAD, _WAIT} and not self._held:
            self._close()
            return
        self._let_go()
        self._held = bytearray()
        self._state = _LINGER
        self._write_eof()
        self._pauses = 0
        self.transport.resume_reading()
        self.relay.wheel.arm(self, self.relay.linger_ticks)

    def _close(self) -> None:
        self._state = _CLOSED
        self._let_go()
        self.transport.close()
        self.relay.wheel.arm(self, self.relay.flush_ticks)

    def reset(self) -> None:
        """Cut the connection so that it cannot be taken for a clean end."""
        reset_on_close(self.transport)
        self.abort()

    def abort(self) -> None:
        self._let_go()
        self.transport.abort()

    def drain(self) -> None:
        """Close if no request is under way; one that is ends the connection."""
        if self._state == _HEAD:
            self._close()

    def turn_off(self) -> None:
        """Over the limit of connections: say so and end."""
        answer = Refusal(detail("too many connections"))
        self.transport.write(render(503, answer, close=True))
        self._state = _BODY
        self._finish()

    def _let_go(self) -> None:
        """Close the backends: at once where an answer is still owed."""
        for backend in (self._upstream, self._control):
            if backend is not None:
                backend.close(at_once=backend is self._active)
        self._upstream = self._control = self._active = None

    def _write_eof(self) -> None:
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            self.transport.abort()  # the client is gone

    def _pause(self, reason: int) -> None:
        if not self._pauses:
            self.transport.pause_reading()
        self._pauses |= reason

    def _resume(self, reason: int) -> None:
        if self._pauses & reason:
            self._pauses &= ~reason
            if not self._pauses and not self._ended & 1:
                self.transport.resume_reading()

    def __repr__(self) -> str:
        return f"<Client {_NAMES[self._state]} {self._head!r} {self._active!r}>"


def _chunk(data: bytes, chunks: ChunkReader) -> bytes:
    """What a read brought of a chunked body, framed again."""
    framed = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
    if chunks.done:
        framed += b"0\r\n" + forwarded_trailers(chunks.trailers) + b"\r\n"
    return framed
