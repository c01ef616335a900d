"""The line of its output by which an upstream says that it is ready (`upstream.ready.log`)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import re


class ReadyLine:
    """Hears every line of the upstream's, and knows whether the run at hand has said that one."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._said = asyncio.Event()
        # What runs already when we come has said it to somebody else, if at all.
        self._said.set()

    @property
    def said(self) -> bool:
        return self._said.is_set()

    def begin(self) -> None:
        """Another run begins."""
        self._said.clear()

    def hear(self, line: str) -> None:
        if not self.said and self._pattern.search(line):
            self._said.set()

    async def wait(self) -> None:
        await self._said.wait()

    def __repr__(self) -> str:
        return f"<ReadyLine said={self.said}>"
