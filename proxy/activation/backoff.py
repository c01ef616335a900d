"""How long to wait before an upstream that has died is started again."""

from __future__ import annotations

from typing import Final

# Delays in seconds: none at first, so that a single crash is hardly noticed; doubling from the
# second on, so that a broken upstream costs little; none again once one has lived for a while.
SECOND_DELAY: Final = 0.1
LONGEST_DELAY: Final = 10.0
HEALTHY_LIFE: Final = 60.0


class Backoff:
    """`next()` says how long to wait this time, in seconds."""

    def __init__(self) -> None:
        self._delay = 0.0

    def next(self) -> float:
        delay = self._delay
        self._delay = min(max(delay * 2, SECOND_DELAY), LONGEST_DELAY)
        return delay

    def reset(self) -> None:
        self._delay = 0.0

    def lived(self, seconds: float) -> None:
        """One was up for `seconds`."""
        if seconds >= HEALTHY_LIFE:
            self.reset()
