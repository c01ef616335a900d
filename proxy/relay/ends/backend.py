"""The other side of a client connection: one connection to the upstream or the control plane.

What is written before the connection is made waits for it. How it ends shows to the client as it
would without us: a message cut short stays short, a reset is a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy.lifecycle.gate import FOR_UPSTREAM
from proxy.relay.ends.wire import BACKEND_FULL, FROM_UPSTREAM, Wire, reset_on_close, shut
from proxy.relay.exchange.conversation import CONTROL
from proxy.relay.exchange.follower import BROKEN, ENDED, GONE, IDLE, MORE, TUNNEL, Follower
from proxy.relay.http.limits import HELD, HIGH_WATER
from proxy.relay.patience.wheel import NEVER

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.lifecycle.gate import Verdict
    from proxy.relay.patience.wheel import Wheel

_UNREAD: Final = 4 * 1024 * 1024  # more than a socket buffers
_NEWS: Final = select.POLLIN | select.POLLRDHUP


class Owner(Protocol):
    """Whom a backend serves."""

    wire: Wire

    def answered(self, backend: Backend, answer: bytes) -> None:
        """Its follower says that `answer` is whole."""

    def heard(self, backend: Backend, event: int, out: bytes) -> None:
        """What its follower says has happened; `out` goes to the client."""

    def refuse(self, status: int, why: str) -> None:
        """It could not be reached."""

    def judged(self) -> Verdict:
        """What the gate says of the present request by this time."""


@dataclass(slots=True, eq=False)
class Dial:
    """One attempt to connect `backend`, which the wheel ends after `seconds`."""

    backend: Backend
    task: asyncio.Task[None]
    wheel: Wheel
    seconds: float
    deadline: int = NEVER
    slot: int = NEVER

    def expired(self) -> None:
        self.backend.refused(504, f"cannot connect to the upstream within {self.seconds:g} s")

    def stop(self) -> None:
        # The way to the control plane is short and has two ends: when one is cut while it is made,
        # the other never hears of it.
        if self.backend.source != CONTROL:
            self.task.cancel()
            self.wheel.forget(self)


@dataclass(slots=True, eq=False)
class Backend(asyncio.Protocol):
    """One exchange at a time: `follower.begin`, `write` the request; the owner hears the rest."""

    _owner: Owner
    source: int
    follower: Follower
    # Takes bytes: the transport's own once there is one, as each request comes by here.
    write: Callable[[bytes], None] = field(init=False)
    dial: Dial | None = None
    _transport: asyncio.Transport | None = None
    _queue: list[bytes] = field(default_factory=list)  # written before the connection was made
    _queued: int = 0

    def __post_init__(self) -> None:
        self.write = self._keep

    # What the owner does.

    def _keep(self, data: bytes) -> None:
        """Until the connection is made; when it is gone nobody takes them any more."""
        if self.follower.stage != GONE:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > HELD:
                self._owner.wire.pause(BACKEND_FULL)

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            shut(self._transport)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, *, at_once: bool) -> None:
        """Let go, quietly: the owner hears nothing of it. `at_once` also drops what is unsent."""
        self.follower.stage = GONE
        self._stop_dialling()
        if self._transport is None:
            return
        if at_once:
            self._transport.abort()
        else:
            self._transport.close()

    def left(self) -> bool:
        """Whether it is idle, and the kernel knows of an end, or of bytes that nobody asked for."""
        if self._transport is None or self.follower.stage != IDLE:
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), _NEWS)
        return bool(poll.poll(0))

    def end_tunnel(self, *, reset: bool) -> None:
        """The client's side of the tunnel is gone; `reset`: by an accident."""
        if reset and self._transport is not None:
            reset_on_close(self._transport)
        self.close(at_once=reset)

    # What becomes of the attempt to connect.

    def reconsider(self) -> None:
        """The state has changed: who accepts the connection now may be the upstream's successor."""
        if self.source != CONTROL and self._owner.judged() not in FOR_UPSTREAM:
            self.refused(502, "cannot connect to the upstream: it has ended")

    def refused(self, status: int, detail: str) -> None:
        """The connection could not be made."""
        self._stop_dialling()
        if self.follower.stage != GONE:
            self.follower.stage = GONE
            self._owner.refuse(status, detail)

    def _stop_dialling(self) -> None:
        dial, self.dial = self.dial, None
        if dial is not None:
            dial.stop()

    # What the event loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        dial, self.dial = self.dial, None
        if dial is not None:
            dial.wheel.forget(dial)
        if self.follower.stage == GONE:
            # After whoever waits for the connection has been told of it: uvloop loses him else.
            asyncio.get_running_loop().call_soon(transport.abort)
            return
        self._transport = transport
        self.write = transport.write
        transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._queue:
            transport.write(b"".join(self._queue))
            self._queue.clear()
            self._queued = 0
            self._owner.wire.resume(BACKEND_FULL)

    def data_received(self, data: bytes) -> None:
        if self.follower.whole(data):
            self._owner.answered(self, data)
            return
        event, out = self.follower.feed(data)
        if event >= BROKEN:
            self.close(at_once=True)
        elif event == ENDED and not self.follower.keep:
            self.close(at_once=self.follower.excess)
        self._owner.heard(self, event, out)

    def pause_writing(self) -> None:
        self._owner.wire.pause(BACKEND_FULL)

    def resume_writing(self) -> None:
        self._owner.wire.resume(BACKEND_FULL)

    def eof_received(self) -> bool:
        if self.follower.stage == TUNNEL:
            return self._owner.wire.end(FROM_UPSTREAM)
        self._over(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        self.write = self._keep
        if exc is not None and self.follower.stage not in {IDLE, GONE} and transport is not None:
            # A write that failed ends the transport, while an early answer may wait unread.
            for data in _unread(transport):
                self.data_received(data)
        self._over(exc)

    def _over(self, exc: Exception | None) -> None:
        event = self.follower.over(reset=exc is not None)
        if event != MORE:
            self._owner.heard(self, event, b"")

    def __repr__(self) -> str:
        return f"<Backend {'control' if self.source == CONTROL else 'upstream'} {self.follower!r}>"


def _unread(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the peer had sent before the connection broke; its descriptor is open until then."""
    sock = transport.get_extra_info("socket")
    left = _UNREAD
    with contextlib.suppress(OSError):
        while left > 0 and (data := os.read(sock.fileno(), HIGH_WATER)):
            left -= len(data)
            yield data
