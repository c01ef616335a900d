"""The client's end of a connection as a thing that is slow, full, or over.

How a connection ends decides what the client sees of the answer. A plain close with unread bytes
behind it is a reset, and a reset takes away what the client has not read yet; so an end that the
client may still be sending into lingers: FIN, then read and drop for a while.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import TYPE_CHECKING, Final

from proxy.relay.http.limits import LINGER_BYTES

if TYPE_CHECKING:
    from proxy.relay.relay import Relay

# What the client's next bytes are: a head, a body, early (held), a tunnel's, or thrown away.
HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)
STATES: Final = ("head", "body", "wait", "tunnel", "linger", "closed")

# Why reading is paused; it goes on when no reason is left.
BACKEND_FULL: Final = 1
HELD_FULL: Final = 2
OTHERS_TURN: Final = 4

# Directions of a tunnel that are over.
FROM_CLIENT: Final = 1
FROM_UPSTREAM: Final = 2
BOTH: Final = FROM_CLIENT | FROM_UPSTREAM

_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, 0 s


class Endpoint(asyncio.Protocol):
    """The transport, its state, and the ways to end it; `let_go` closes what is paired with it."""

    __slots__ = (
        "_backlog",
        "_lingered",
        "_pauses",
        "cause",
        "deadline",
        "ended",
        "held",
        "relay",
        "slot",
        "stalled",
        "state",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self.relay = relay
        self.deadline = self.slot = 0  # the wheel's
        self.state = HEAD
        self.held = bytearray()  # bytes that have to wait for their turn
        self.stalled = False  # the client does not read what it asked for
        self.ended = 0
        self.cause = ""  # who cut it; nobody has said so: the client
        self._pauses = 0
        self._backlog = 0  # bytes it had not read when it was last looked at
        self._lingered = 0

    @property
    def busy(self) -> bool:
        """Whether an ordinary request or its answer is under way."""
        return self.state not in {HEAD, TUNNEL}

    def let_go(self) -> None:
        raise NotImplementedError

    def expired(self) -> None:
        raise NotImplementedError

    # Slow and full.

    def pause(self, reason: int) -> None:
        if not self._pauses:
            self.transport.pause_reading()
        self._pauses |= reason
        if reason != OTHERS_TURN:
            self.relay.hangups.watch(self)

    def resume(self, reason: int) -> None:
        if self._pauses & reason:
            self._pauses &= ~reason
            if self._pauses:
                return
            self.relay.hangups.forget(self)
            # A transport that is resumed behind its end would report the end again.
            if not self.ended & FROM_CLIENT:
                self.transport.resume_reading()

    @property
    def paused(self) -> bool:
        return bool(self._pauses)

    def take_turns(self) -> None:
        """Read on when the others have had their turn."""
        self.pause(OTHERS_TURN)
        asyncio.get_running_loop().call_soon(self.resume, OTHERS_TURN)

    def begin_stall(self) -> None:
        self.stalled = True
        self._backlog = self.transport.get_write_buffer_size()

    def judge_slow_reader(self, backlog: int) -> None:
        """However slowly a client reads what it was sent, it is given time; not if it stopped."""
        stuck = backlog >= self._backlog > 0
        self._backlog = backlog
        if stuck:
            self.cause = "timeout"
            self.abort()
        else:
            self.relay.wheel.arm(self, self.relay.idle_ticks)

    # Over.

    def fileno(self) -> int:
        return int(self.transport.get_extra_info("socket").fileno())

    def hung_up(self, *, broken: bool) -> None:
        """What a read would have told. In a tunnel one direction may end before the other."""
        if broken:
            self.abort()
        elif self.state != TUNNEL:
            self.close()

    def finish(self) -> None:
        """End the connection so that the client gets all that was written."""
        if self.state in {LINGER, CLOSED}:
            return
        if self.state in {HEAD, WAIT} and not self.held:
            self.close()
            return
        self.let_go()
        self.held = bytearray()
        self.state = LINGER
        self.write_eof()
        self._pauses = 0
        self.transport.resume_reading()
        self.relay.wheel.arm(self, self.relay.linger_ticks)

    def linger(self, size: int) -> None:
        """Drop `size` bytes of a client that has been answered for the last time."""
        self._lingered += size
        if self._lingered > LINGER_BYTES:
            self.transport.abort()

    def close(self) -> None:
        self.state = CLOSED
        self.let_go()
        self.transport.close()
        self.relay.wheel.arm(self, self.relay.flush_ticks)

    def write_eof(self) -> None:
        """Send FIN behind what is written; a peer that is gone will be told by its own event."""
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            self.transport.abort()

    def reset(self) -> None:
        """Cut the connection so that it cannot be taken for a clean end."""
        reset_on_close(self.transport)
        self.abort()

    def abort(self) -> None:
        self.let_go()
        self.transport.abort()


def reset_on_close(transport: asyncio.Transport) -> None:
    """Make the close of a TCP connection a reset; a Unix socket has none."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
