"""Notices an upstream that hangs: it runs, and answers nobody."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.starter import Exit

logger = logging.getLogger(__name__)


class Pulse:
    """Kills the upstream when so many `checks` in a row have failed, `interval` seconds apart.

    `check` tells why one did not pass; `wanted` whether the upstream is to be alive at all; `kill`
    ends it, which its own future then tells. `hung` is why the present one was killed.
    """

    def __init__(
        self,
        *,
        check: Callable[[], Awaitable[str | None]],
        interval: float,
        failures: int,
        wanted: Callable[[], bool],
        kill: Callable[[], Awaitable[None]],
    ) -> None:
        self._check = check
        self._interval = interval
        self._failures = failures
        self._wanted = wanted
        self._kill = kill
        self._following: asyncio.Task[None] | None = None
        self.hung: str | None = None

    def follow(self, exited: asyncio.Future[Exit]) -> None:
        """Until it has ended."""
        self.hung = None
        self._following = asyncio.create_task(self._follow(exited), name="pulse")

    async def _follow(self, exited: asyncio.Future[Exit]) -> None:
        failed = 0
        while not exited.done():
            await asyncio.wait({exited}, timeout=self._interval)
            why = None if exited.done() else await self._check()
            failed = failed + 1 if why is not None else 0
            if failed < self._failures or exited.done() or not self._wanted():
                continue
            failed, self.hung = 0, why
            logger.error("the upstream hangs", extra={"error": why, "failures": self._failures})
            try:
                await self._kill()
            except ActivationError as error:
                logger.error("cannot kill the upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
