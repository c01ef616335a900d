"""The upstream's own lines, on their way into the proxy's log; records in JSON stay records.

A very long line arrives in pieces, and whoever masks piece by piece sees no value that lies across
a cut. So the end of a piece, as long as a value could be, waits for the next one.
"""

from __future__ import annotations

import logging
from typing import Protocol

from proxy.log.jsonline import read_record

logger = logging.getLogger("upstream")


class Mask(Protocol):
    """What is kept in one piece."""

    def __call__(self, text: str) -> str: ...

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
            self._log(stream, text)

    def _log(self, stream: str, text: str) -> None:
        record = None
        if text.startswith("{"):
            # As text first: a number that is a value would not be masked later.
            record = read_record(self._mask(text) if self._mask is not None else text)
        if record is None:
            logger.info(text, extra={"stream": stream})
            return
        # How much it logs is the upstream's own affair: no more is left out than of plain lines.
        if logger.isEnabledFor(max(record.level, logging.INFO)):
            extra = {"stream": stream, "upstream": record.fields}
            logger.handle(
                logger.makeRecord(
                    *(logger.name, record.level, __file__, 0, record.message, (), None),
                    extra=extra,
                )
            )

    def _cut(self, text: str, mask: Mask) -> int:
        """Where to cut `text`, so that no value is cut, be it begun or complete."""
        last = max(0, len(text) + 1 - max(mask.longest, 1))
        for begin, after in mask.spans(text, last) if last else ():
            if begin < last < after:
                # Values that overlap without end ("aaaa") are cut: any place is as good.
                return begin if last - begin <= 2 * mask.longest else last
        return last
