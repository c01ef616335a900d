"""Following a response: where it ends, and whether its connection outlives it.

Its bytes go to the client as they came; nothing is taken apart or put together. A head is passed
on once it is complete and has one reading, so a broken one can still become a 502. After that the
bytes flow, and whatever breaks shows as it would without us.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Final

from proxy.relay.http.chunks import ChunkError, ChunkReader
from proxy.relay.http.response import CHUNKED, UNTIL_CLOSE, ResponseError

if TYPE_CHECKING:
    from proxy.relay.ends.client import Client
    from proxy.relay.http.head import RequestHead

# What the next bytes are. Before a connection is made its stage is already that of its request.
IDLE, HEAD, LENGTH, CHUNKS, ENDLESS, TUNNEL, GONE = range(7)
STAGES: Final = ("idle", "head", "length", "chunked", "until close", "tunnel", "gone")


class Follower(asyncio.Protocol):
    """Follows one response at a time, each announced by `begin`; the client hears how it ends."""

    __slots__ = (
        "_bodiless",
        "_chunks",
        "_keep",
        "_left",
        "_old",
        "_upgrade",
        "client",
        "kept",
        "served",
        "stage",
    )

    def __init__(self, client: Client) -> None:
        self.client = client
        self.stage = IDLE
        self.served = False  # has answered before, so it may have been closing meanwhile
        self.kept = b""  # a head that is not complete
        self._bodiless = False
        self._old = False
        self._upgrade = False
        self._keep = False
        self._left = 0
        self._chunks: ChunkReader | None = None

    def begin(self, head: RequestHead) -> None:
        """Expect the response to `head`."""
        self.stage = HEAD
        self._bodiless = head.method == b"HEAD"
        self._old = head.old
        self._upgrade = head.upgrade

    def close(self, *, at_once: bool) -> None:
        raise NotImplementedError

    def data_received(self, data: bytes) -> None:
        stage = self.stage
        self.client.returned += len(data)
        if stage == HEAD:
            self._read_head(data)
        elif stage == LENGTH:
            self._read_length(data, self._left)
        elif stage == CHUNKS:
            self._read_chunks(data)
        elif stage in {ENDLESS, TUNNEL}:
            self.client.transport.write(data)
        elif stage == IDLE:
            # Nobody asked. What it is cannot be told, so nobody gets it as an answer.
            self.close(at_once=True)
            self.client.backend_left(self)

    def _read_head(self, data: bytes) -> None:
        if self.kept:
            data = self.kept + data
            self.kept = b""
        client = self.client
        while data:
            try:
                framing = client.relay.responses.read(data, bodiless=self._bodiless, old=self._old)
            except ResponseError as error:
                self.close(at_once=True)
                client.failed(502, f"the upstream sent {error}")
                return
            if framing is None:
                self.kept = data
                return
            status, end, length, self._keep = framing
            if status >= 200:
                client.status = status
                self._begin_body(data, end, length)
                if client.began:  # more of it is to come
                    client.first = monotonic()
                return
            if status == 101:
                self._open_tunnel(data)
                return
            client.transport.write(data[:end])
            data = data[end:]

    def _begin_body(self, data: bytes, end: int, length: int) -> None:
        client = self.client
        if length >= 0:
            self.stage = LENGTH
            self._read_length(data, end + length)
            return
        if length == UNTIL_CLOSE:
            self.stage = ENDLESS
            client.transport.write(data)
            return
        assert length == CHUNKED  # noqa: S101  the only one left
        self._chunks = ChunkReader()
        self.stage = CHUNKS
        self._read_chunks(data, end)

    def _read_length(self, data: bytes, owed: int) -> None:
        self._left = left = owed - len(data)
        self.client.transport.write(data if left >= 0 else data[:left])
        if left <= 0:
            self._ended(excess=left < 0)

    def _read_chunks(self, data: bytes, start: int = 0) -> None:
        chunks = self._chunks
        assert chunks is not None  # noqa: S101  set on entering the stage
        try:
            end = start + chunks.feed(data[start:] if start else data)
        except ChunkError:
            self.close(at_once=True)
            self.client.truncated(reset=False)
            return
        excess = end < len(data)
        self.client.transport.write(data[:end] if excess else data)
        if chunks.done:
            self._ended(excess=excess)

    def _ended(self, *, excess: bool) -> None:
        """The response is complete. `excess`: bytes follow that belong to no response."""
        self._chunks = None
        self.served = True
        keep = self._keep and not excess
        if keep:
            self.stage = IDLE
        else:
            self.close(at_once=excess)
        self.client.response_ended(keep=keep)

    def _open_tunnel(self, data: bytes) -> None:
        if not (self._upgrade and self.client.may_tunnel()):
            self.close(at_once=True)
            self.client.failed(502, "the upstream switched protocols unasked")
            return
        self.stage = TUNNEL
        self.client.transport.write(data)
        self.client.tunnel_opened()

    def over(self, exc: Exception | None) -> None:
        """The upstream sends no more: what that means depends on what it owed."""
        stage, self.stage = self.stage, GONE
        client = self.client
        if stage == IDLE:
            client.backend_left(self)
        elif stage == HEAD and self.served and not self.kept:
            client.vanish()
        elif stage == HEAD:
            client.failed(502, "the upstream closed the connection before it had answered")
        elif stage == ENDLESS and exc is None:
            client.response_ended(keep=False)
        elif stage == TUNNEL:
            client.tunnel_lost(reset=exc is not None)
        elif stage != GONE:
            client.truncated(reset=exc is not None)
