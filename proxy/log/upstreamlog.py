"""The upstream's own lines, on their way into the proxy's log.

A very long line arrives in pieces, and whoever masks piece by piece sees no value that lies across
a cut. So the end of a piece, as long as a value could be, waits for the next one.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("upstream")


class UpstreamLog:
    """Call it with each line or piece (`more`: the line goes on)."""

    def __init__(self) -> None:
        self._values: tuple[str, ...] = ()
        self._waiting: dict[str, str] = {}

    def arm(self, values: Iterable[str]) -> None:
        """Another run of the upstream begins, with these values to keep in one piece."""
        self._values = tuple(filter(None, values))
        self._waiting.clear()

    def __call__(self, stream: str, line: str, more: bool) -> None:  # noqa: FBT001  a callback
        text = self._waiting.pop(stream, "") + line
        if more:
            cut = self._cut(text)
            text, self._waiting[stream] = text[:cut], text[cut:]
        if text or not more:
            logger.info(text, extra={"stream": stream})

    def _cut(self, text: str) -> int:
        """Where to cut `text`, so that no value is cut, be it begun or complete."""
        longest = max(map(len, self._values), default=1)
        last = cut = max(0, len(text) + 1 - longest)
        moved = True
        while moved and cut:
            moved = False
            for value in self._values:
                begin = text.find(value, max(0, cut + 1 - len(value)), cut - 1 + len(value))
                if 0 <= begin < cut:
                    cut, moved = begin, True
            if cut < last - 2 * longest:
                return last  # values that overlap without end ("aaaa"): any cut is as good
        return cut
