"""One timer for all connections.

A deadline is one attribute of the connection. Moving it later, which every request does, only
assigns it: the connection stays in the slot it is in, and when the wheel gets there it is put
into the slot of its real deadline. Only an earlier deadline takes a place of its own.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

NEVER: Final = 0
# Connections looked at in one turn of the loop: a millisecond's work, should they all have to end.
_AT_ONCE: Final = 64


class Timed(Protocol):
    """`deadline` is the tick at which `expired` is due, `slot` the tick it is looked at next."""

    deadline: int
    slot: int

    def expired(self) -> None: ...


class Wheel:
    """Calls `expired()` of what it watches, at most one `resolution` (seconds) late.

    Thousands that are due at once are ended a few at a time, lest all others wait for them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, resolution: float) -> None:
        self._loop = loop
        self._resolution = resolution
        self._slots: dict[int, set[Timed]] = {}
        self._timer: asyncio.Handle | None = None
        self.tick = 1

    def ticks(self, seconds: float) -> int:
        """How many ticks cover `seconds`: one more, because the present one has begun."""
        return math.ceil(seconds / self._resolution) + 1

    def arm(self, item: Timed, ticks: int) -> None:
        """Make `item` expire in `ticks`, unless it is armed again or disarmed before."""
        deadline = item.deadline = self.tick + ticks
        if item.slot == NEVER or deadline < item.slot:
            self._place(item, deadline)

    def disarm(self, item: Timed) -> None:
        item.deadline = NEVER

    def forget(self, item: Timed) -> None:
        """Let go of a connection that is gone."""
        item.deadline = NEVER
        self._leave(item)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._slots.clear()

    def _place(self, item: Timed, slot: int) -> None:
        self._leave(item)
        item.slot = slot
        self._slots.setdefault(slot, set()).add(item)
        if self._timer is None:
            self._timer = self._later()

    def _leave(self, item: Timed) -> None:
        items = self._slots.get(item.slot)
        if items is not None:
            items.discard(item)
            if not items:
                del self._slots[item.slot]
        item.slot = NEVER

    def _turn(self) -> None:
        self.tick += 1
        self._look()

    def _look(self) -> None:
        """Look at some of what is due; the rest follows when the loop has done its other work."""
        due = self._slots.get(self.tick)
        try:
            for _ in range(_AT_ONCE):
                if not due:
                    break
                self._judge(due.pop())
        finally:
            if due:
                self._timer = self._loop.call_soon(self._look)
            else:
                self._slots.pop(self.tick, None)
                # Nothing watched, nothing to wake up for.
                self._timer = self._later() if self._slots else None

    def _judge(self, item: Timed) -> None:
        item.slot = NEVER
        if item.deadline > self.tick:
            self._place(item, item.deadline)
        elif item.deadline != NEVER:
            item.deadline = NEVER
            item.expired()

    def _later(self) -> asyncio.Handle:
        return self._loop.call_later(self._resolution, self._turn)
