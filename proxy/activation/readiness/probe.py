"""The readiness probe: one attempt, and waiting until one passes.

Many callers may ask at once (every kubelet probe of `/ready` does): one attempt runs, the others
await its result, so that the upstream sees no more of them than one caller would send.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.readiness.asking import Asking
from proxy.activation.readiness.line import ReadyLine
from proxy.activation.readiness.question import Question
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from proxy.activation.starter import Exit
    from proxy.settings import ReadySettings, ServerUrl

logger = logging.getLogger(__name__)

_UNSAID: Final = "no line of the upstream's output matches upstream.ready.log"


class Probe:
    """Passes when the upstream at `url` is as `ready` says."""

    def __init__(self, url: ServerUrl, ready: ReadySettings) -> None:
        self._question = Question(url, ready)
        self._interval = ready.interval
        self._line = ReadyLine(ready.log) if ready.log is not None else None
        self.last_failure: str | None = None  # why the most recent waiting attempt failed
        self._running: asyncio.Task[str | None] | None = None

    def begin(self) -> None:
        """Another run of the upstream begins: what the last one said is no word of this one's."""
        if self._line is not None:
            self._line.begin()

    def hear(self, line: str) -> None:
        """A line of the upstream's output."""
        if self._line is not None:
            self._line.hear(line)

    async def check(self) -> str | None:
        """One attempt, shared by everybody who asks meanwhile; None, or why it did not pass."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._once(), name="readiness probe")
        return await asyncio.shield(self._running)

    async def wait(self, exited: asyncio.Future[Exit]) -> None:
        """Return as soon as an attempt passes.

        Raises `ActivationError` when the upstream dies first. Has no deadline of its own.
        """
        attempts = 0
        waiting = asyncio.create_task(self._until_passed(), name="readiness wait")
        try:
            both: set[asyncio.Future[Any]] = {waiting, exited}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                end = exited.result()
                raise ActivationError(f"the upstream {end.reason} before it was ready")
            attempts = waiting.result()
        finally:
            waiting.cancel()
        logger.debug("readiness probe passed", extra={"attempts": attempts})

    async def _once(self) -> str | None:
        if self._line is not None and not self._line.said:
            return _UNSAID
        failure = await self._question.ask()
        return failure.why if failure is not None else None

    async def _until_passed(self) -> int:
        if self._line is not None:
            self.last_failure = _UNSAID
            await self._line.wait()
        return await Asking(self._question, self._interval, self._failed).until_passed()

    def _failed(self, why: str) -> None:
        self.last_failure = why
