"""The fork server's end of its socket: JSON lines, with descriptors beside some of them."""

from __future__ import annotations

import array
import json
import os
import select
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_DESCRIPTORS = 4  # at most, beside one message


class Stream:
    """Blocking. It is closed in every process that is forked while `guarded`."""

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        self._socket.setblocking(True)
        self._guarded = False
        self._pid = os.getpid()
        self._received = b""
        self._descriptors: list[int] = []

    def guard(self) -> None:
        """From now on, a process that modules fork does not keep it."""
        self._guarded = True
        os.register_at_fork(after_in_child=self._forked)

    def unguard(self) -> None:
        self._guarded = False

    def ready(self, seconds: float | None) -> bool:
        """Whether a message, or the end, is there or comes within `seconds`."""
        if b"\n" in self._received:
            return True
        return bool(select.select([self._socket], [], [], seconds)[0])

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def own(self) -> None:
        """Make sure that this is still the process the launcher talks to."""
        if os.getpid() != self._pid:
            os._exit(0)

    def send(self, message: dict[str, Any], descriptors: list[int] | None = None) -> None:
        """An end that nobody reads any more is noticed by `receive`."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors or []))
        try:
            sent = self._socket.sendmsg([data], [rights] if descriptors else [])
            self._socket.sendall(data[sent:])
        except OSError:
            pass

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """The next message and its descriptors; None when the other end is gone."""
        while b"\n" not in self._received:
            item = array.array("i")
            try:
                data, ancillary, _flags, _address = self._socket.recvmsg(
                    _CHUNK, socket.CMSG_SPACE(_DESCRIPTORS * item.itemsize)
                )
            except OSError:
                return None, []
            for level, kind, content in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    item.frombytes(content[: len(content) - len(content) % item.itemsize])
            self._descriptors += list(item)
            if not data:
                return None, []
            self._received += data
        line, self._received = self._received.split(b"\n", 1)
        descriptors, self._descriptors = self._descriptors, []
        return json.loads(line), descriptors

    def _forked(self) -> None:
        if self._guarded:
            self._socket.close()
