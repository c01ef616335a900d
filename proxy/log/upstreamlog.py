"""The upstream's own lines, on their way into the proxy's log.

A very long line arrives in pieces, and whoever masks piece by piece sees no value that lies across
a cut. So the end of a piece, as long as a value could be, waits for the next one.
"""

from __future__ import annotations

import logging
from typing import Protocol

logger = logging.getLogger("upstream")


class Mask(Protocol):
    """What is kept in one piece."""

    @property
    def longest(self) -> int:
        """Characters of the longest value, in whatever form."""

    def spans(self, text: str, near: int) -> list[tuple[int, int]]:
        """Where the values stand in `text`, near a place; those that overlap are one."""


class UpstreamLog:
    """Call it with each line or piece (`more`: the line goes on)."""

    def __init__(self) -> None:
        self._mask: Mask | None = None
        self._waiting: dict[str, str] = {}

    def arm(self, mask: Mask) -> None:
        """Another run of the upstream begins, with values of its own."""
        self._mask = mask
        self._waiting.clear()

    def __call__(self, stream: str, line: str, more: bool) -> None:  # noqa: FBT001  a callback
        text = self._waiting.pop(stream, "") + line
        if more and self._mask is not None:
            cut = self._cut(text, self._mask)
            text, self._waiting[stream] = text[:cut], text[cut:]
        if text or not more:
            logger.info(text, extra={"stream": stream})

    def _cut(self, text: str, mask: Mask) -> int:
        """Where to cut `text`, so that no value is cut, be it begun or complete."""
        last = max(0, len(text) + 1 - max(mask.longest, 1))
        for begin, after in mask.spans(text, last) if last else ():
            if begin < last < after:
                # Values that overlap without end ("aaaa") are cut: any place is as good.
                return begin if last - begin <= 2 * mask.longest else last
        return last
