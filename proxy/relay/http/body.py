"""The body of a request on its way to a backend: framed again, never encoded again."""

from __future__ import annotations

from proxy.relay.http.chunks import ChunkReader
from proxy.relay.http.fields import CHUNKED, forwarded_trailers


class RequestBody:
    """Counts a body of `length` bytes, or follows its chunks when that is `CHUNKED`.

    A body of known length goes on as it came. Chunks are dissolved and what one read brought of
    them becomes one chunk, so extensions end here and tiny chunks do not multiply.
    """

    __slots__ = ("_chunks", "_left", "begun", "done", "size")

    def __init__(self, length: int) -> None:
        self._left = length
        self._chunks = ChunkReader() if length == CHUNKED else None
        self.begun = False
        self.size = 0  # bytes that were taken, the chunks' own included
        self.done = False

    @property
    def chunked(self) -> bool:
        return self._chunks is not None

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """What goes on of `data`, and what follows the body in it. Raises `ChunkError`."""
        self.begun = self.begun or bool(data)
        if self._chunks is not None:
            out, rest = self._take_chunks(data, self._chunks)
        else:
            self._left = left = self._left - len(data)
            self.done = left <= 0
            out, rest = (data, b"") if left >= 0 else (data[:left], data[left:])
        self.size += len(data) - len(rest)
        return out, rest

    def _take_chunks(self, data: bytes, chunks: ChunkReader) -> tuple[bytes, bytes]:
        pieces: list[bytes] = []
        end = chunks.feed(data, pieces)
        parts: list[bytes] = []
        if pieces:
            parts = [b"%x\r\n" % sum(map(len, pieces)), *pieces, b"\r\n"]
        if chunks.done:
            self.done = True
            parts += b"0\r\n", forwarded_trailers(chunks.trailers), b"\r\n"
        return b"".join(parts), data[end:]
