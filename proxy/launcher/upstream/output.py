"""Drains stdout and stderr: lines for the controller, the last 100 KiB of stderr kept.

The end of a process is not the end of its pipes: a grandchild may hold them open. So nothing here
waits for end of file. `drain` takes what is in the pipes at this moment, which after a death is
everything that the dead process wrote.
"""

from __future__ import annotations

import os

from ..kernel.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..kernel.loop import Loop

TAIL_LIMIT = 100 * 1024  # bytes of stderr kept
LINE_LIMIT = 8 * 1024  # bytes; a longer line is passed on in pieces
EXCERPT_LINES = 20  # of the tail, in the exit event
EXCERPT_LIMIT = 64 * 1024  # bytes of the tail, in the exit event
_CHUNK = 65536
_BETWEEN_WORDS = (b" ", b",", b";", b"&", b'"', b"'")
_DRAIN_LIMIT = 1024 * 1024  # bytes: a survivor that never stops writing must not hold up the exit


class Output:
    """The two pipes of one upstream. `emit(stream, line)` gets every line, without its newline.

    `emit_piece(stream, text)` gets all but the last piece of a line that is too long.
    """

    def __init__(
        self,
        loop: Loop,
        emit: Callable[[str, str], None],
        emit_piece: Callable[[str, str], None] | None = None,
    ) -> None:
        self._loop = loop
        self._emit = emit
        self._emit_piece = emit_piece or emit
        self._pipes: list[_Pipe] = []
        self._paused = False
        self.tail = bytearray()

    def open(self) -> tuple[int, int]:
        """Make the pipes; returns the descriptors to be the upstream's stdout and stderr.

        The caller closes these two.
        """
        ends = []
        for stream in ("stdout", "stderr"):
            read, write = os.pipe()
            os.set_blocking(read, False)
            self._pipes.append(_Pipe(read, stream))
            ends.append(write)
        self._watch()
        return ends[0], ends[1]

    @property
    def ends(self) -> list[int]:
        """Our ends of the pipes, those of stdout and stderr, while they are open."""
        return [pipe.fd for pipe in self._pipes]

    def adopt(self, stdout: int, stderr: int) -> None:
        """Go on with the `ends` of another one's, in another process."""
        self._pipes += [_Pipe(stdout, "stdout"), _Pipe(stderr, "stderr")]
        self._watch()

    def pause(self) -> None:
        """Read no more until `resume`: the upstream will wait in its writes."""
        if not self._paused:
            self._paused = True
            for pipe in self._pipes:
                self._loop.unwatch(pipe.fd)

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._watch()

    def drain(self) -> None:
        """Pass on what is in the pipes now, an unfinished last line included."""
        for pipe in list(self._pipes):
            taken = 0
            while taken < _DRAIN_LIMIT:
                count = self._read(pipe)
                if not count:
                    break
                taken += count
            self._flush(pipe)

    def close(self) -> None:
        for pipe in list(self._pipes):
            self._close(pipe)

    def excerpt(self) -> str:
        """The last lines of stderr, whole ones: half a secret is not recognised as one."""
        text = bytes(self.tail)
        if len(text) > EXCERPT_LIMIT:
            text = text[-EXCERPT_LIMIT:].partition(b"\n")[2]
        lines = text.splitlines()
        return b"\n".join(lines[-EXCERPT_LINES:]).decode("utf-8", "replace")

    def _watch(self) -> None:
        for pipe in self._pipes:
            self._loop.watch(pipe.fd, READ, self._reader(pipe))

    def _reader(self, pipe: _Pipe) -> Callable[[int], None]:
        def read(_events: int) -> None:
            self._read(pipe)

        return read

    def _read(self, pipe: _Pipe) -> int:
        """Read once; returns the number of bytes, 0 when there is nothing now or ever."""
        try:
            data = os.read(pipe.fd, _CHUNK)
        except BlockingIOError:
            return 0
        if not data:
            self._close(pipe)
            return 0
        if pipe.stream == "stderr":
            self.tail += data
            del self.tail[:-TAIL_LIMIT]
        pipe.pending += data
        self._split(pipe)
        return len(data)

    def _split(self, pipe: _Pipe) -> None:
        lines = pipe.pending.split(b"\n")
        pipe.pending = lines.pop()
        for line in lines:
            self._pass_on(pipe.stream, line)
        while len(pipe.pending) > LINE_LIMIT:
            piece = _piece(pipe.pending)
            del pipe.pending[: len(piece)]
            self._emit_piece(pipe.stream, piece.decode("utf-8", "replace"))

    def _pass_on(self, stream: str, line: bytearray) -> None:
        while len(line) > LINE_LIMIT:
            piece = _piece(line)
            del line[: len(piece)]
            self._emit_piece(stream, piece.decode("utf-8", "replace"))
        self._emit(stream, line.rstrip(b"\r").decode("utf-8", "replace"))

    def _flush(self, pipe: _Pipe) -> None:
        if pipe.pending:
            line, pipe.pending = pipe.pending, bytearray()
            self._pass_on(pipe.stream, line)

    def _close(self, pipe: _Pipe) -> None:
        if pipe in self._pipes:
            self._pipes.remove(pipe)
            self._loop.unwatch(pipe.fd)
            os.close(pipe.fd)
            self._flush(pipe)


class _Pipe:
    __slots__ = ("fd", "pending", "stream")

    def __init__(self, fd: int, stream: str) -> None:
        self.fd = fd
        self.stream = stream
        self.pending = bytearray()


def _piece(line: bytearray) -> bytes:
    """The first piece of a long line, cut between words where it can be, never in a character."""
    cut = max(line.rfind(mark, LINE_LIMIT // 2, LINE_LIMIT) for mark in _BETWEEN_WORDS)
    if cut >= 0:
        return bytes(line[: cut + 1])
    end = LINE_LIMIT
    while end > LINE_LIMIT - 4 and line[end] & 0xC0 == 0x80:  # inside a character of UTF-8
        end -= 1
    return bytes(line[:end])
