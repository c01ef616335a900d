"""The fork server's end of its socket: JSON lines, with descriptors beside some of them."""

from __future__ import annotations

import array
import json
import os
import socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK = 65536
_DESCRIPTORS = 4  # at most, beside one message


class Stream:
    """Blocking. The descriptor is closed in every process that preloaded modules fork."""

    def __init__(self, fd: int) -> None:
        os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(True)
        self._pid = os.getpid()
        self._received = b""
        self._descriptors: list[int] = []
        os.register_at_fork(after_in_child=self._forked)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def own(self) -> None:
        """Make sure that this is still the process the launcher talks to."""
        if os.getpid() != self._pid:
            os._exit(0)

    def send(self, message: dict[str, Any]) -> None:
        """An end that nobody reads any more is noticed by `receive`."""
        try:
            self._socket.sendall(json.dumps(message, separators=(",", ":")).encode() + b"\n")
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
        self._socket.close()
