"""Tries again what has failed: after a while, after a longer while, and then no more."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from .loop import Loop


class Again:
    """At most `limit` tries in a row, the first after `delay` seconds, each twice as late."""

    def __init__(self, loop: Loop, delay: float, limit: int) -> None:
        self._loop = loop
        self._delay = delay
        self._limit = limit
        self._tries = 0
        self._timer: object = None

    def soon(self, action: Callable[[], None]) -> bool:
        """Schedule the next try; False when there were enough."""
        if self._tries >= self._limit:
            return False
        self.after(self._delay * 2**self._tries, action)
        self._tries += 1
        return True

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Schedule a try that is not counted, instead of one that was scheduled before."""
        self.cancel()
        self._timer = self._loop.later(seconds, action)

    def cancel(self) -> None:
        self._loop.cancel(self._timer)

    def reset(self) -> None:
        """It went well."""
        self._tries = 0
