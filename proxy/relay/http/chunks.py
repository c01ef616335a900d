"""Following a chunked body, to the byte.

Data is never copied to find out where a body ends: sizes are read, data is stepped over. Only a
size line, a line end or a trailer that a read has cut in two is kept until its rest comes.
"""

from __future__ import annotations

from typing import Final

from proxy.relay.http.grammar import BROKEN_LINE, CHUNK, ONE_TRAILER, PADDED_CHUNK, TRAILERS

_LINE_LIMIT: Final = 4096  # a size line: few digits, the rest are zeros and extensions
_TRAILER_LIMIT: Final = 16384
_ANSWERED_TRAILER_LIMIT: Final = 65536

_SIZE, _DATA, _END, _TRAILERS, _DONE = range(5)


class ChunkError(Exception):
    """The bytes are no chunked body; of those fed last, the first `good` may belong to one."""

    good = 0


class ChunkReader:
    """State of one body; `trailers` are its raw trailer lines once `done`.

    `answer`: it belongs to an answer, whose bytes are passed on as they are, so trailers are
    stepped over one by one, and blanks behind a size do no harm.
    """

    __slots__ = ("_chunk", "_kept", "_left", "_state", "trailers")

    def __init__(self, *, answer: bool = False) -> None:
        self._chunk = PADDED_CHUNK if answer else CHUNK
        self._state = _SIZE
        self._left = 0
        self._kept = b""
        self.trailers = b""

    @property
    def done(self) -> bool:
        return self._state == _DONE

    def feed(self, data: bytes, pieces: list[bytes] | None = None) -> int:
        """Step over `data` and return how many of its bytes belong to the body.

        That is all of them unless the body ended. Chunk data is added to `pieces` if given.
        Raises `ChunkError` at the first byte that cannot be.
        """
        before = len(self._kept)
        if before:
            data = self._kept + data
            self._kept = b""
        at = 0
        size = len(data)
        while at < size and self._state != _DONE:
            if self._state == _DATA:
                end = min(at + self._left, size)
                if pieces is not None:
                    pieces.append(data[at:end])
                self._left -= end - at
                at = end
                if not self._left:
                    self._state = _END
                continue
            try:
                after = self._step(data, at)
            except ChunkError as error:
                error.good = max(at - before, 0)
                raise
            if after < 0:
                self._kept = data[at:]
                at = size
                break
            at = after
        return at - before

    def _step(self, data: bytes, at: int) -> int:
        """Read one line or the trailers; where they end, or -1 when they are cut."""
        if self._state == _END:
            if data.startswith(b"\r\n", at):
                self._state = _SIZE
                return at + 2
            if data[at:] == b"\r":
                return -1
            raise ChunkError("a chunk is longer than its size")
        if self._state == _SIZE:
            match = self._chunk.match(data, at)
            if match is None:
                return _cut(data, at, _LINE_LIMIT, b"\r\n")
            if match.end() - at > _LINE_LIMIT:
                raise ChunkError("a chunk size line is too long")
            self._left = int(match[1], 16)
            self._state = _DATA if self._left else _TRAILERS
            return match.end()
        return self._read_trailers(data, at)

    def _read_trailers(self, data: bytes, at: int) -> int:
        if self._chunk is PADDED_CHUNK:
            return self._step_over_trailer(data, at)
        match = TRAILERS.match(data, at)
        if match is None:
            return _cut(data, at, _TRAILER_LIMIT, b"\r\n\r\n")
        if match.end() - at > _TRAILER_LIMIT:
            raise ChunkError("the trailers are too long")
        self.trailers = match[1]
        self._state = _DONE
        return match.end()

    def _step_over_trailer(self, data: bytes, at: int) -> int:
        match = ONE_TRAILER.match(data, at)
        if match is None:
            return _cut(data, at, _ANSWERED_TRAILER_LIMIT, b"\r\n")
        if match.end() == at + 2:
            self._state = _DONE
        return match.end()


def _cut(data: bytes, at: int, limit: int, end: bytes) -> int:
    """-1 when `data` from `at` may become what was expected, once more of it is there."""
    if data.find(end, at) >= 0 or len(data) - at > limit or BROKEN_LINE.search(data, at):
        raise ChunkError("a chunk size or a trailer is malformed")
    return -1
