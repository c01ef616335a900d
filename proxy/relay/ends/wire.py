"""The client's transport: read or paused, quick or slow, and over in one direction or both."""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from proxy.relay.http.limits import LINGER_BYTES

if TYPE_CHECKING:
    import asyncio

    from proxy.relay.patience.hangups import Hangups

# Why reading is paused; it goes on when no reason is left.
BACKEND_FULL: Final = 1
HELD_FULL: Final = 2
OTHERS_TURN: Final = 4

# Directions that are over.
FROM_CLIENT: Final = 1
FROM_UPSTREAM: Final = 2
_BOTH: Final = FROM_CLIENT | FROM_UPSTREAM

# Looks in the idle limit of a tunnel.
LOOKS: Final = 4

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s


class Left(Protocol):
    """Whose transport it is."""

    def hung_up(self, *, broken: bool) -> None: ...


@dataclass(slots=True, eq=False)
class Wire:
    """`stalled`: the client does not read what it asked for; `pauses`: why we read nothing."""

    transport: asyncio.Transport
    _client: Left
    _hangups: Hangups
    stalled: bool = False
    _backlog: int = 0  # bytes it had not read when it was last looked at
    pauses: int = 0
    _ended: int = 0
    _dropped: int = 0
    _moved: int = -1  # bytes of a tunnel, when it was last looked at
    _still: int = 0  # looks since they were fewer

    def pause(self, reason: int) -> None:
        if not self.pauses:
            self.transport.pause_reading()
        self.pauses |= reason
        if reason != OTHERS_TURN:
            self._hangups.watch(self)

    def resume(self, reason: int) -> None:
        if not self.pauses & reason:
            return
        self.pauses &= ~reason
        if self.pauses:
            return
        # A transport that is resumed behind its end would report the end again.
        if not self._ended & FROM_CLIENT:
            self._hangups.forget(self)
            self.transport.resume_reading()

    @property
    def ended(self) -> bool:
        """Whether the client has ended its side."""
        return bool(self._ended & FROM_CLIENT)

    def linger(self) -> None:
        """Send no more, and read what still comes, to `drop` it."""
        shut(self.transport)
        self.pauses = 0
        self.transport.resume_reading()

    def drop(self, size: int) -> None:
        self._dropped += size
        if self._dropped > LINGER_BYTES:
            self.transport.abort()

    def fileno(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def hung_up(self, *, broken: bool) -> None:
        self._client.hung_up(broken=broken)

    def unread(self) -> bool:
        """Whether the kernel has bytes of the client that we have not."""
        if self.transport.is_closing():
            return False
        count = bytearray(4)
        fcntl.ioctl(self.fileno(), termios.FIONREAD, count)
        return any(count)

    def stall(self) -> None:
        self.stalled = True
        self._backlog = self.transport.get_write_buffer_size()

    def unsent(self) -> int:
        """Bytes that the client does not read."""
        return self.transport.get_write_buffer_size() if self.stalled else 0

    def stuck(self) -> bool | None:
        """Whether the client reads nothing of what it was sent; None: it has read all.

        However slowly it reads, it is given time; not if it stopped.
        """
        before, self._backlog = self._backlog, self.transport.get_write_buffer_size()
        return self._backlog >= before > 0 if self._backlog else None

    def idle(self, moved: int) -> bool:
        """Whether nothing has moved in a tunnel for as many looks as an idle limit has.

        Its bytes are compared from time to time, so that they set no timer when they pass.
        """
        before, self._moved = self._moved, moved
        self._still = self._still + 1 if moved == before else 0
        return self._still >= LOOKS

    def end(self, direction: int) -> bool:
        """One direction is over; whether the other is not."""
        self._ended |= direction
        if direction == FROM_CLIENT:
            self._hangups.watch(self)  # there is nothing left to read that would tell
        if direction == FROM_UPSTREAM:
            shut(self.transport)
        return self._ended != _BOTH


def shut(transport: asyncio.Transport) -> None:
    """Send FIN behind what is written; a peer that is gone will be noticed by its own event."""
    try:
        transport.write_eof()
    except (OSError, RuntimeError):
        transport.abort()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close of a TCP connection a reset; a Unix socket has none."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
