"""How long to wait before what has died is started again, and when to give up."""

from __future__ import annotations

import collections
import time
from typing import Final

# Delays in seconds: none at first, so that a single crash is hardly noticed; doubling from the
# second on, so that a broken upstream costs little; none again once one has lived for a while.
SECOND_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
HEALTHY_LIFE: Final = 60.0


class Backoff:
    """`next()` says how long to wait this time, in seconds.

    It is `spent` once there were `limit` deaths within `within` seconds.
    """

    def __init__(self, limit: int = 1, within: float = 0.0) -> None:
        self._within = within
        self._deaths: collections.deque[float] = collections.deque(maxlen=limit)
        self._delay = 0.0

    def __repr__(self) -> str:
        return f"<Backoff deaths={len(self._deaths)} delay={self._delay:g}>"

    @property
    def spent(self) -> bool:
        deaths = self._deaths
        full = len(deaths) == deaths.maxlen
        return full and time.monotonic() - deaths[0] <= self._within

    def next(self) -> float:
        delay = self._delay
        self._delay = min(max(delay * 2, SECOND_DELAY), LONGEST_DELAY)
        return delay

    def reset(self) -> None:
        """Begin anew, for another user's upstream."""
        self._delay = 0.0
        self._deaths.clear()

    def died(self, lived: float = 0.0) -> None:
        """One has died that was ready for so many seconds."""
        self._deaths.append(time.monotonic())
        if lived >= HEALTHY_LIFE:
            self._delay = 0.0
