"""The other side of a client connection: one connection to the upstream or the control plane.

What is written before the connection is made waits for it. How it ends shows to the client as it
would without us: a message cut short stays short, a reset is a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, cast

from proxy.lifecycle.gate import FOR_UPSTREAM
from proxy.relay.ends.wire import reset_on_close
from proxy.relay.exchange.follower import GONE, IDLE, STAGES, TUNNEL, Follower
from proxy.relay.http.limits import HELD, HIGH_WATER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.relay.ends.client import Client

_UNREAD: Final = 4 * 1024 * 1024  # more than a socket buffers


class Backend(Follower):
    """One exchange at a time: `begin`, `write` the request, then the client hears how it ends."""

    __slots__ = ("_queue", "_queued", "_transport", "control", "deadline", "dial", "slot")

    def __init__(self, client: Client, *, control: bool) -> None:
        super().__init__(client)
        self.control = control
        self.deadline = self.slot = 0  # the wheel's: until when the connection must be made
        self.dial: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._queue: list[bytes] = []  # written before the connection was made
        self._queued = 0

    # What the client does.

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
        elif self.stage != GONE:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > HELD:
                self.client.backend_full()

    def write_eof(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            _shut(self._transport)

    def pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self, *, at_once: bool) -> None:
        """Let go, quietly: the client hears nothing of it. `at_once` also drops what is unsent."""
        self.stage = GONE
        self._stop_dialling()
        if self._transport is None:
            return
        if at_once:
            self._transport.abort()
        else:
            self._transport.close()

    def end_tunnel(self, *, reset: bool) -> None:
        """The client's side of the tunnel is gone; `reset`: by an accident."""
        if reset and self._transport is not None:
            reset_on_close(self._transport)
        self.close(at_once=reset)

    def expired(self) -> None:
        """The wheel: nobody has accepted the connection."""
        self._stop_dialling()
        seconds = self.client.relay.limits.connect_timeout
        self.refused(504, f"cannot connect to the upstream within {seconds:g} s")

    def reconsider(self) -> None:
        """The state has changed: who accepts the connection now may be the upstream's successor."""
        dialling = self.dial is not None and not self.control
        if dialling and self.client.judged() not in FOR_UPSTREAM:
            self.refused(502, "cannot connect to the upstream: it has ended")

    def _stop_dialling(self) -> None:
        dial, self.dial = self.dial, None
        # The way to the control plane is short and has two ends: when one is cut while it is made,
        # the other never hears of it.
        if dial is not None and not self.control:
            dial.cancel()
            self.client.relay.wheel.forget(self)

    def refused(self, status: int, detail: str) -> None:
        """The connection could not be made."""
        self._stop_dialling()
        if self.stage != GONE:
            self.stage = GONE
            self.client.failed(status, detail)

    # What the event loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self.dial = None
        self.client.relay.wheel.forget(self)
        if self.stage == GONE:
            # After whoever waits for the connection has been told of it: uvloop loses him else.
            asyncio.get_running_loop().call_soon(transport.abort)
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._queue:
            transport.write(b"".join(self._queue))
            self._queue.clear()
            self._queued = 0
            self.client.backend_drained()

    def pause_writing(self) -> None:
        self.client.backend_full()

    def resume_writing(self) -> None:
        self.client.backend_drained()

    def eof_received(self) -> bool:
        if self.stage == TUNNEL:
            return self.client.tunnel_ended()
        self.over(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if exc is not None and self.stage not in {IDLE, GONE} and transport is not None:
            # A write that failed ends the transport, while an early answer may wait unread.
            for data in _unread(transport):
                self.data_received(data)
        self.over(exc)

    def __repr__(self) -> str:
        kind = "control" if self.control else "upstream"
        return f"<Backend {kind} {STAGES[self.stage]}>"


def _unread(transport: asyncio.Transport) -> Iterator[bytes]:
    """What the peer had sent before the connection broke; its descriptor is open until then."""
    sock = transport.get_extra_info("socket")
    left = _UNREAD
    with contextlib.suppress(OSError):
        while left > 0 and (data := os.read(sock.fileno(), HIGH_WATER)):
            left -= len(data)
            yield data


def _shut(transport: asyncio.Transport) -> None:
    """Send FIN; a peer that is gone already will be noticed by its own event."""
    try:
        transport.write_eof()
    except (OSError, RuntimeError):
        transport.abort()
