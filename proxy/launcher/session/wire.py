"""JSON lines between the launcher and its controller, version 1, over any stream descriptor.

One object per line, UTF-8. A line that is not a JSON object is answered with an error and
otherwise ignored. What is sent is queued without limit; whoever produces much (the output pump)
asks `congested` first, so that answers always go out.
"""

from __future__ import annotations

import json
import os

from ..kernel.loop import READ, WRITE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ..kernel.loop import Loop

VERSION = 1
LINE_LIMIT = 16 * 1024 * 1024  # bytes of one message: a plan's files are inside
QUEUE_LIMIT = 1024 * 1024  # bytes unsent before output is held back
_CHUNK = 65536


class Session:
    """One controller. `gone` is true once it has closed its end or cannot be written to."""

    def __init__(self, loop: Loop, fd: int, on_message: Callable[[dict[str, Any]], None]) -> None:
        self._loop = loop
        self._fd = fd
        self._on_message = on_message
        self._received = bytearray()
        self._searched = 0  # bytes of _received known to hold no newline
        self._skipping = False  # the rest of an oversized line is thrown away
        self._unsent = bytearray()
        self.on_drained: Callable[[], None] = _nothing
        self.gone = False
        os.set_inheritable(fd, False)
        os.set_blocking(fd, False)
        loop.watch(fd, READ, self._ready)

    @property
    def congested(self) -> bool:
        return len(self._unsent) > QUEUE_LIMIT

    @property
    def flushed(self) -> bool:
        return self.gone or not self._unsent

    def send(self, message: dict[str, Any]) -> None:
        if self.gone:
            return
        idle = not self._unsent
        self._unsent += json.dumps(message, separators=(",", ":")).encode() + b"\n"
        if idle:
            self._write()

    def close(self) -> None:
        if not self.gone:
            self.gone = True
            self._loop.unwatch(self._fd)
            os.close(self._fd)
            self._unsent.clear()
            self.on_drained()

    def _ready(self, events: int) -> None:
        if events & WRITE:
            self._write()
        if events & READ and not self.gone:
            self._read()

    def _write(self) -> None:
        was_congested = self.congested
        try:
            while self._unsent:
                del self._unsent[: os.write(self._fd, self._unsent[:_CHUNK])]
        except BlockingIOError:
            self._loop.watch(self._fd, READ | WRITE, self._ready)
        except OSError:
            self.close()
            return
        else:
            self._loop.watch(self._fd, READ, self._ready)
        if was_congested and not self.congested:
            self.on_drained()

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
            return
        self._received += data
        self._split()

    def _split(self) -> None:
        while True:
            end = self._received.find(b"\n", self._searched)
            if end < 0:
                break
            line = bytes(self._received[:end])
            del self._received[: end + 1]
            self._searched = 0
            if self._skipping:
                self._skipping = False
            elif line.strip():
                self._parse(line)
        if len(self._received) > LINE_LIMIT:
            if not self._skipping:
                self._refuse("the line is longer than %d bytes" % LINE_LIMIT)
            self._skipping = True
            self._received.clear()
        self._searched = len(self._received)

    def _parse(self, line: bytes) -> None:
        try:
            message = json.loads(line.decode())
        except (ValueError, RecursionError):
            self._refuse("the line is not valid JSON")
            return
        if isinstance(message, dict):
            self._on_message(message)
        else:
            self._refuse("the line is not a JSON object")

    def _refuse(self, why: str) -> None:
        self.send({"id": None, "ok": False, "error": "cannot read a message: " + why})


def _nothing() -> None:
    pass
