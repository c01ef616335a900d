"""The other side of a client connection: one connection to the upstream or the control plane.

Response bytes go to the client as they came. They are only followed, to know where a message
ends and whether the connection outlives it; nothing is taken apart or put together.

A head is passed on once it is complete and has one reading, so a broken one can still become
a 502. After that the bytes flow, and whatever breaks shows as it would without us: a message
cut short stays short, a reset is a reset.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Final, cast

from proxy.relay.chunks import ChunkError, ChunkReader
from proxy.relay.endpoint import reset_on_close
from proxy.relay.limits import HELD, HIGH_WATER
from proxy.relay.response import CHUNKED, UNTIL_CLOSE, ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.relay.connection import Client
    from proxy.relay.head import RequestHead

_UNREAD: Final = 4 * 1024 * 1024  # more than a socket buffers

# What the next bytes are. Before a connection is made its stage is already that of its request.
_IDLE, _HEAD, _LENGTH, _CHUNKED, _UNTIL_CLOSE, _TUNNEL, _GONE = range(7)
_NAMES: Final = ("idle", "head", "length", "chunked", "until close", "tunnel", "gone")


class Backend(asyncio.Protocol):
    """One exchange at a time: `begin`, `write` the request, then the client hears how it ends."""

    __slots__ = (
        "_bodiless",
        "_chunks",
        "_client",
        "_keep",
        "_kept",
        "_left",
        "_old",
        "_queue",
        "_queued",
        "_served",
        "_stage",
        "_transport",
        "_upgrade",
        "control",
        "dial",
    )

    def __init__(self, client: Client, *, control: bool) -> None:
        self._client = client
        self.control = control
        self.dial: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None
        self._queue: list[bytes] = []  # written before the connection was made
        self._queued = 0
        self._stage = _IDLE
        self._served = False  # has answered before, so it may have been closing meanwhile
        self._bodiless = False
        self._old = False
        self._upgrade = False
        self._keep = False
        self._left = 0
        self._chunks: ChunkReader | None = None
        self._kept = b""  # a head that is not complete

    # What the client does.

    def begin(self, head: RequestHead) -> None:
        """Expect the response to `head`, whose bytes follow with `write`."""
        self._stage = _HEAD
        self._bodiless = head.method == b"HEAD"
        self._old = head.old
        self._upgrade = head.upgrade

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)
        elif self._stage != _GONE:
            self._queue.append(data)
            self._queued += len(data)
            if self._queued > HELD:
                self._client.backend_full()

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
        self._stage = _GONE
        if self.dial is not None:
            self.dial.cancel()
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

    def refused(self, status: int, detail: str) -> None:
        """The connection could not be made."""
        if self._stage != _GONE:
            self._stage = _GONE
            self._client.failed(status, detail)

    # What the event loop does.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's are none by class
        self.dial = None
        if self._stage == _GONE:
            transport.abort()
            return
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._queue:
            transport.write(b"".join(self._queue))
            self._queue.clear()
            self._queued = 0
            self._client.backend_drained()

    def pause_writing(self) -> None:
        self._client.backend_full()

    def resume_writing(self) -> None:
        self._client.backend_drained()

    def data_received(self, data: bytes) -> None:
        stage = self._stage
        self._client.relay.bytes_out += len(data)
        if stage == _HEAD:
            self._read_head(data)
        elif stage == _LENGTH:
            self._read_length(data, self._left)
        elif stage == _CHUNKED:
            self._read_chunks(data)
        elif stage in {_UNTIL_CLOSE, _TUNNEL}:
            self._client.transport.write(data)
        elif stage == _IDLE:
            # Nobody asked. What it is cannot be told, so nobody gets it as an answer.
            self.close(at_once=True)
            self._client.backend_left(self)

    def eof_received(self) -> bool:
        if self._stage == _TUNNEL:
            return self._client.tunnel_ended()
        self._over(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        transport, self._transport = self._transport, None
        if exc is not None and self._stage not in {_IDLE, _GONE} and transport is not None:
            # A write that failed ends the transport, while an early answer may wait unread.
            for data in _unread(transport):
                self.data_received(data)
        self._over(exc)

    # Following the response.

    def _read_head(self, data: bytes) -> None:
        if self._kept:
            data = self._kept + data
            self._kept = b""
        client = self._client
        while data:
            try:
                framing = client.relay.responses.read(data, bodiless=self._bodiless, old=self._old)
            except ResponseError as error:
                self.close(at_once=True)
                client.failed(502, f"the upstream sent {error}")
                return
            if framing is None:
                self._kept = data
                return
            status, end, length, self._keep = framing
            if status >= 200:
                self._begin_body(data, end, length)
                return
            if status == 101:
                self._open_tunnel(data)
                return
            client.transport.write(data[:end])
            data = data[end:]

    def _begin_body(self, data: bytes, end: int, length: int) -> None:
        client = self._client
        client.answered = True
        if length >= 0:
            self._stage = _LENGTH
            self._read_length(data, end + length)
            return
        if length == UNTIL_CLOSE:
            self._stage = _UNTIL_CLOSE
            client.transport.write(data)
            return
        assert length == CHUNKED  # noqa: S101  the only one left
        self._chunks = ChunkReader()
        self._stage = _CHUNKED
        self._read_chunks(data, end)

    def _read_length(self, data: bytes, owed: int) -> None:
        self._left = left = owed - len(data)
        self._client.transport.write(data if left >= 0 else data[:left])
        if left <= 0:
            self._ended(excess=left < 0)

    def _read_chunks(self, data: bytes, start: int = 0) -> None:
        chunks = self._chunks
        assert chunks is not None  # noqa: S101  set on entering the stage
        try:
            end = start + chunks.feed(data[start:] if start else data)
        except ChunkError:
            self.close(at_once=True)
            self._client.truncated(reset=False)
            return
        excess = end < len(data)
        self._client.transport.write(data[:end] if excess else data)
        if chunks.done:
            self._ended(excess=excess)

    def _ended(self, *, excess: bool) -> None:
        """The response is complete. `excess`: bytes follow that belong to no response."""
        self._chunks = None
        self._served = True
        keep = self._keep and not excess
        if keep:
            self._stage = _IDLE
        else:
            self.close(at_once=excess)
        self._client.response_ended(keep=keep)

    def _open_tunnel(self, data: bytes) -> None:
        if not (self._upgrade and self._client.may_tunnel()):
            self.close(at_once=True)
            self._client.failed(502, "the upstream switched protocols unasked")
            return
        self._stage = _TUNNEL
        self._client.transport.write(data)
        self._client.tunnel_opened()

    def _over(self, exc: Exception | None) -> None:
        """The upstream sends no more: what that means depends on what it owed."""
        stage, self._stage = self._stage, _GONE
        client = self._client
        if stage == _IDLE:
            client.backend_left(self)
        elif stage == _HEAD and self._served and not self._kept:
            client.vanish()
        elif stage == _HEAD:
            client.failed(502, "the upstream closed the connection before it had answered")
        elif stage == _UNTIL_CLOSE and exc is None:
            client.response_ended(keep=False)
        elif stage == _TUNNEL:
            client.tunnel_lost(reset=exc is not None)
        elif stage != _GONE:
            client.truncated(reset=exc is not None)

    def __repr__(self) -> str:
        kind = "control" if self.control else "upstream"
        return f"<Backend {kind} {_NAMES[self._stage]}>"


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
