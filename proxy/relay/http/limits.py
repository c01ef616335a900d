"""What one client may cost: sizes, counts and seconds."""

from __future__ import annotations

from typing import Final, Protocol

# Bytes a transport may hold for a slow peer before the other side is paused. With the read that
# is under way (at most 256 KiB) it bounds what one direction of a connection can cost.
HIGH_WATER: Final = 64 * 1024

# Bytes that a client may send ahead (pipelined requests, early tunnel data) before it is paused.
HELD: Final = 64 * 1024

# Held bytes are read in pieces of this size, more than nearly every head.
PIECE: Final = 16 * 1024

# A read of this size may be one of many that uvloop makes in one turn of the loop (as long as each
# fills its buffer of 256,000 bytes), so the next one is left to the next turn.
LARGE_READ: Final = 128 * 1024

# A body behind a refusal is read and thrown away up to here to keep the connection.
DISCARDED: Final = 64 * 1024

# After a last answer the client gets this long, and this many bytes, to stop sending and read it
# (a close with unread bytes is a reset, which would take the answer away from it).
LINGER_SECONDS: Final = 2.0
LINGER_BYTES: Final = 4 * 1024 * 1024

# A closing connection whose peer reads nothing more is cut after this long.
FLUSH_SECONDS: Final = 30.0

# A client that is not read at present is looked after this often.
HANGUP_SECONDS: Final = 2.0

# Heads that are remembered with their reading: how many, and up to how many bytes each.
KNOWN_HEADS: Final = 256
KNOWN_SIZE: Final = 2048


class Keepalive(Protocol):
    """`limits.keepalive`: whole seconds, and a number of probes."""

    @property
    def idle(self) -> int: ...
    @property
    def interval(self) -> int: ...
    @property
    def count(self) -> int: ...


class Limits(Protocol):
    """`limits` of the settings: bytes, counts and seconds."""

    @property
    def head_size(self) -> int: ...
    @property
    def header_count(self) -> int: ...
    @property
    def target_length(self) -> int: ...
    @property
    def head_timeout(self) -> float: ...
    @property
    def idle_timeout(self) -> float: ...
    @property
    def connections(self) -> int: ...
    @property
    def connect_timeout(self) -> float: ...
    @property
    def half_close(self) -> str: ...
    @property
    def tunnel_idle(self) -> float | None: ...
    @property
    def keepalive(self) -> Keepalive: ...
