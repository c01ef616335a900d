"""The readiness probe's question while an upstream starts: again and again, until an answer passes.

An attempt that gets no answer does not hold up the next one: some servers never answer what came
too early. And one that says "not yet" is asked less and less often, so that its log, and the end of
it in our errors, is not all probes. Either pause is a part of what has been waited already.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.readiness.question import Failure, Question

# Seconds between two attempts while nobody listens.
_GLANCE: Final = 0.002
# From a refusal to the next attempt: this part of the time since the first one, and seconds.
_PAUSE_PART: Final = 1 / 20
_LONGEST_PAUSE: Final = 1.0
# From an attempt without an answer to one beside it: seconds, or this part of the oldest's age.
_PATIENCE: Final = 0.2
_PATIENCE_PART: Final = 1 / 4


class Asking:
    """`interval` is the least time from an answer to the next attempt, in seconds.

    `on_failure` hears why an attempt did not pass.
    """

    def __init__(
        self, question: Question, interval: float, on_failure: Callable[[str], None]
    ) -> None:
        self._question = question
        self._interval = interval
        self._on_failure = on_failure
        self._now = asyncio.get_running_loop().time
        self._unanswered: dict[asyncio.Task[Failure | None], float] = {}  # since when; oldest first
        self._refusing_since: float | None = None
        self._count = 0

    async def until_passed(self) -> int:
        """Returns how many attempts that took."""
        try:
            while True:
                self._count += 1
                newest = asyncio.create_task(self._question.ask(), name="readiness attempt")
                self._unanswered[newest] = self._now()
                if await self._passes(newest):
                    return self._count
        finally:
            for task in self._unanswered:
                task.cancel()
            await asyncio.gather(*self._unanswered, return_exceptions=True)

    async def _passes(self, newest: asyncio.Task[Failure | None]) -> bool:
        """Listen until it is time for another attempt; True as soon as one passes."""
        due = self._now() + self._patience()
        while (left := due - self._now()) > 0:
            if not self._unanswered:
                await asyncio.sleep(left)
                break
            done, _ = await asyncio.wait(
                self._unanswered, timeout=left, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                del self._unanswered[task]
                failure = task.result()
                if failure is None:
                    return True
                self._on_failure(failure.why)
                if task is newest:
                    due = self._now() + self._pause(failure)
        if newest in self._unanswered:
            self._on_failure(f"{self._question.target} does not answer")
        return False

    def _patience(self) -> float:
        oldest = next(iter(self._unanswered.values()))
        return max(_PATIENCE, self._interval, (self._now() - oldest) * _PATIENCE_PART)

    def _pause(self, failure: Failure) -> float:
        if failure.refused:
            self._refusing_since = None
            return min(_GLANCE, self._interval)
        if self._refusing_since is None:
            self._refusing_since = self._now()
        waited = self._now() - self._refusing_since
        return max(self._interval, min(waited * _PAUSE_PART, _LONGEST_PAUSE))
