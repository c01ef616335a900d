"""More clients than are allowed: whatever they do, the control paths are answered.

A connection over the limit is told so when its request is there, for that may be a probe. Until
then it has one of a few places. They are no use to whoever only holds one: when all are taken, the
next to come gets that of a client that has said nothing, or, where few of these are left, of one
that is being answered.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final, Generic, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

# Part of the limit below which it is over: clients that come and go at it are one event.
_OVER: Final = 0.9


class Client(Protocol):
    def abort(self) -> None: ...


C = TypeVar("C", bound=Client)


class Crowd(Generic[C]):
    """Who is within the limit of `most`, and who has one of the `places` beyond it.

    `silent(client)`: it has no request under way, and has sent nothing of one. `late` counts all
    those that came over the limit.
    """

    def __init__(self, most: int, places: int, silent: Callable[[C], bool]) -> None:
        self.most = most
        self.late = 0
        self._places = places
        self._silent = silent
        self._inside = 0
        self._outside: dict[C, None] = {}  # for its order
        self._cut: set[C] = set()
        self._met: tuple[float, int] | None = None  # when, and `late` before

    def admit(self, client: C) -> bool:
        """Whether it is within the limit; call it once for each client."""
        if self._inside < self.most:
            self._inside += 1
            return True
        if self._met is None:
            self._met = (time.monotonic(), self.late)
            logger.warning("client connections are at their limit", extra={"limit": self.most})
        self.late += 1
        self._outside[client] = None
        if len(self._outside) > self._places:
            self._make_room()
        return False

    def forget(self, client: C) -> None:
        """It has gone."""
        if client in self._outside:
            del self._outside[client]
        elif client in self._cut:
            self._cut.remove(client)
        else:
            self._inside -= 1
            self._see_whether_it_is_over()

    def _see_whether_it_is_over(self) -> None:
        if self._met is not None and self._inside < self.most * _OVER:
            since, late = self._met
            self._met = None
            extra = {"lasted": round(time.monotonic() - since, 3), "late": self.late - late}
            logger.info("client connections are below their limit again", extra=extra)

    def _least(self) -> C:
        """Of the silent ones, while those are at least half, and else of the others, the first."""
        silent: list[C] = []
        others: list[C] = []
        for client in self._outside:
            (silent if self._silent(client) else others).append(client)
            if len(silent) * 2 > self._places:
                return silent[0]
        return others[0] if others else silent[0]

    def _make_room(self) -> None:
        client = self._least()
        del self._outside[client]
        self._cut.add(client)  # until it has gone, which takes a turn of the loop
        client.abort()
