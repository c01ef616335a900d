"""The one timer of all connections: everybody is ended in time, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

from proxy.relay.patience.wheel import NEVER, Wheel
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import settle

RESOLUTION = 0.01
MANY = 2000


class Item:
    """Notes in which turn of the loop it expired."""

    def __init__(self, turns: Turns) -> None:
        self.deadline = self.slot = NEVER
        self.turns = turns
        self.expired_in: int | None = None

    def expired(self) -> None:
        self.expired_in = self.turns.count
        self.turns.begun.set()


class Turns:
    """Counts the turns of the loop; `begun` is set with the first that somebody expires in."""

    def __init__(self) -> None:
        self.count = 0
        self.begun = asyncio.Event()
        self._go_on()

    def _go_on(self) -> None:
        self.count += 1
        self.handle = asyncio.get_running_loop().call_soon(self._go_on)


def armed(count: int) -> tuple[Wheel, list[Item], Turns]:
    """That many, all due in the next tick."""
    wheel = Wheel(asyncio.get_running_loop(), RESOLUTION)
    turns = Turns()
    items = [Item(turns) for _ in range(count)]
    for item in items:
        wheel.arm(item, 1)
    return wheel, items, turns


@both_loops
async def test_thousands_that_are_due_at_once_are_ended_a_few_at_a_time() -> None:
    wheel, items, turns = armed(MANY)
    await settle(lambda: all(item.expired_in for item in items))
    turns.handle.cancel()
    wheel.close()
    shared = Counter(item.expired_in for item in items)
    assert max(shared.values()) <= MANY / 20
    last, first = max(shared, key=lambda turn: turn or 0), min(shared, key=lambda turn: turn or 0)
    assert (last or 0) - (first or 0) + 1 == len(shared), "a turn went by without any"


@both_loops
async def test_whoever_is_gone_or_given_more_time_meanwhile_is_let_alone() -> None:
    wheel, items, turns = armed(MANY)
    await turns.begun.wait()
    left = [item for item in items if not item.expired_in]
    assert left
    gone, moved = left[::2], left[1::2]
    for item in gone:
        wheel.forget(item)
    for item in moved:
        wheel.arm(item, 3)
    before = wheel.tick
    await settle(lambda: all(item.expired_in for item in moved))
    assert wheel.tick == before + 3
    turns.handle.cancel()
    wheel.close()
    assert not any(item.expired_in for item in gone)


@both_loops
async def test_one_that_cannot_be_ended_keeps_nobody_else_from_it() -> None:
    wheel, items, turns = armed(3)
    faults: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))

    def broken() -> None:
        raise OSError("cannot end")

    for item in items[:2]:
        item.expired = broken  # type: ignore[method-assign]
    later = Item(turns)
    wheel.arm(later, 2)
    await settle(lambda: items[2].expired_in and later.expired_in)
    turns.handle.cancel()
    wheel.close()
    assert [str(fault["exception"]) for fault in faults] == ["cannot end"] * 2
