"""The launcher's end of a socket to a process of its fork server's: JSON lines both ways.

What comes from there is not trusted to be sound: the modules in that process can write to its
descriptors, close them, and end it at any moment. Nothing of that may disturb the launcher, so
every fault is the end of the channel, told once, with words for it.
"""

from __future__ import annotations

import array
import json
import select
import socket
import time

from ..kernel.loop import READ

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable

    from ..kernel.loop import Loop

SEND_LIMIT = 5.0  # seconds for the other end to take a message; it takes milliseconds
LINE_LIMIT = 16 * 1024 * 1024  # bytes; the longest is the report on thousands of modules
ENDED = "has closed its socket"


class Channel:
    """`take(message)` is called with every object, `lost(why)` once, unless `close` was first.

    `other` is the other end, to be handed on and closed by whoever has made the channel; there is
    none of one that is made of an `end`. Raises `OSError` when there are no descriptors left.
    """

    other: socket.socket

    def __init__(
        self,
        loop: Loop,
        take: Callable[[dict[str, Any]], None],
        lost: Callable[[str], None],
        end: socket.socket | None = None,
    ) -> None:
        self._loop = loop
        self._take = take
        self._lost = lost
        self._received = b""
        if end is None:
            end, self.other = socket.socketpair()
        self._socket = end
        self._socket.setblocking(False)
        self.open = True
        loop.watch(self._socket.fileno(), READ, self._readable)

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, message: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
        """A failure is the end of the channel."""
        self.send_bytes(json.dumps(message, separators=(",", ":")).encode() + b"\n", descriptors)

    def send_bytes(self, data: bytes, descriptors: Iterable[int] = ()) -> None:
        if not self.open:
            return
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
        self._socket.settimeout(SEND_LIMIT)
        try:
            rest = data[self._socket.sendmsg([data], [rights] if rights[2] else []) :]
            if rest:  # who has everything may have answered, and gone
                self._socket.sendall(rest)
        except OSError as error:
            self._end("does not listen: %s" % (error.strerror or error))
        else:
            self._socket.setblocking(False)

    def read(self) -> None:
        """Take what has arrived."""
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end(ENDED)
            return
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            if self.open:
                self._understand(line)
        if len(self._received) > LINE_LIMIT:
            self._end("has written a line of over %d bytes" % LINE_LIMIT)

    def drain(self) -> None:
        """Take everything that has arrived, as far as the end."""
        while self.open and select.select([self._socket], [], [], 0)[0]:
            self.read()

    def close(self) -> None:
        if self.open:
            self.open = False
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()

    def _readable(self, _events: int) -> None:
        self.read()

    def _understand(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if isinstance(message, dict):
            self._take(message)
        else:
            self._end("has written what is no message")

    def _end(self, why: str) -> None:
        if self.open:
            self.close()
            self._lost(why)


def serve(channels: list[Channel], done: Callable[[], object], seconds: float) -> bool:
    """Serve these alone, without the event loop, until `done()`; whether it became true."""
    deadline = time.monotonic() + seconds
    while not done():
        waiting = [channel for channel in channels if channel.open]
        left = deadline - time.monotonic()
        if left <= 0 or not waiting:
            return False
        for channel in select.select(waiting, [], [], left)[0]:
            if channel.open:
                channel.read()
    return True
