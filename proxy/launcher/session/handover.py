"""A controller's first words at the launcher's socket, with a socket of its own beside them.

Why it is brought one is told in `listen`.
"""

from __future__ import annotations

import array
import json
import os
import socket

from ..errors import LaunchError
from ..kernel.loop import READ
from .wire import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.loop import Loop

IDENTIFY_LIMIT = 5.0  # seconds for a peer to say who it is
_LINE_LIMIT = 4096  # bytes of what it says
_DESCRIPTORS = 4  # taken in beside it, to be closed if they are too many


class Peer:
    """Whoever has connected at the path that everybody knows: heard once, answered, left."""

    def __init__(
        self,
        loop: Loop,
        connection: socket.socket,
        identified: Callable[[dict[str, Any], list[int]], None],
        gone: Callable[[Peer], None],
    ) -> None:
        """`identified(message, descriptors)` raises `LaunchError`; it does not keep those."""
        self._loop = loop
        self._connection = connection
        self._identified = identified
        self._gone = gone
        self._timer = loop.later(IDENTIFY_LIMIT, self._close)
        loop.watch(connection.fileno(), READ, self._hear)

    def _hear(self, _events: int) -> None:
        line, brought = _received(self._connection)
        try:
            if line:
                self._identified(_message(line), brought)
                self._answer({"ok": True, "version": VERSION})
        except LaunchError as error:
            self._answer({"ok": False, "error": "cannot identify: %s" % error})
        finally:
            for fd in brought:
                os.close(fd)
            self._close()

    def _answer(self, answer: dict[str, Any]) -> None:
        try:
            self._connection.send(json.dumps(answer).encode() + b"\n")
        except OSError:
            pass  # it has not waited

    def _close(self) -> None:
        self._loop.cancel(self._timer)
        self._loop.unwatch(self._connection.fileno())
        self._connection.close()
        self._gone(self)


def _received(connection: socket.socket) -> tuple[bytes, list[int]]:
    """What is said and the descriptors beside it; nothing when the peer has gone."""
    numbers = array.array("i")
    room = socket.CMSG_SPACE(_DESCRIPTORS * numbers.itemsize)
    try:
        line, beside, _flags, _address = connection.recvmsg(
            _LINE_LIMIT, room, socket.MSG_CMSG_CLOEXEC
        )
    except OSError:
        return b"", []
    for level, kind, content in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
    return line, list(numbers)


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line.decode())
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise LaunchError("the line is not a JSON object")
    return message


def is_listening(fd: int) -> bool:
    """Whether it is a Unix stream socket that connections can be accepted from."""
    try:
        end = socket.socket(fileno=os.dup(fd))
    except OSError:
        return False
    with end:
        kind = (end.family, end.type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC))
        listens = end.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        return kind == (socket.AF_UNIX, socket.SOCK_STREAM) and bool(listens)
