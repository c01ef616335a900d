"""The requests that wait for the upstream to be ready.

All wait equally long, so the one that came first is due first and one timer does for all. When
the state changes they are judged again, a few at a time: thousands that connect to an upstream in
the same moment would overrun its queue, and keep the loop from those who watch the state. Who is
to be refused is known at once, though: by their turn the state may be that of the next upstream,
which is not the one that they waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from proxy.lifecycle.gate import FOR_UPSTREAM, Verdict

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

_AT_ONCE: Final = 32  # well under the usual queues of listeners (128 and more)


class Parked(Protocol):
    """`judged` is what the gate says at present; `go_on` ends the wait with a verdict."""

    def judged(self) -> Verdict: ...

    def go_on(self, verdict: Verdict, /) -> None: ...


class Parking:
    """Holds each for at most `seconds`; `dials` are the connections that are being made."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        seconds: float,
        dials: AbstractSet[asyncio.Task[None]],
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._dials = dials
        self._due: dict[Parked, float] = {}  # in the order of coming, which is that of times
        self._over: dict[Parked, Verdict] = {}  # what they waited for will not be
        self._timer: asyncio.TimerHandle | None = None
        self._judging: asyncio.Task[None] | None = None
        self._changed = False

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, item: object) -> bool:
        return item in self._due

    def add(self, item: Parked) -> None:
        due = self._due[item] = self._loop.time() + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._expire)

    def forget(self, item: Parked) -> None:
        self._due.pop(item, None)
        self._over.pop(item, None)

    def reconsider(self) -> None:
        """The state has changed."""
        self._changed = True
        for item in self._due:
            verdict = item.judged()
            if verdict not in FOR_UPSTREAM:
                self._over[item] = verdict
        if self._due and self._judging is None:
            self._judging = self._loop.create_task(self._judge(), name="parked requests")

    def close(self) -> None:
        self._due.clear()
        self._over.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._judging is not None:
            self._judging.cancel()

    async def _judge(self) -> None:
        try:
            while self._changed:
                self._changed = False
                parked = list(self._due)
                for start in range(0, len(parked), _AT_ONCE):
                    for item in parked[start : start + _AT_ONCE]:
                        if item in self._due:  # not gone, nor due, meanwhile
                            self._settle(item)
                    if self._dials:
                        await asyncio.wait(set(self._dials))
        finally:
            self._judging = None

    def _settle(self, item: Parked) -> None:
        verdict = self._over.get(item) or item.judged()
        if verdict is not Verdict.HOLD:
            item.go_on(verdict)

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._due:
            item, due = next(iter(self._due.items()))
            if due > now:
                self._timer = self._loop.call_at(due, self._expire)
                return
            item.go_on(Verdict.REFUSE)

    def __repr__(self) -> str:
        return f"<Parking {len(self._due)} for {self._seconds:g} s>"
