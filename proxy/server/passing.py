"""Signals that are the upstream's: passed on to it, wherever it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from proxy.errors import ActivationError
from proxy.server.early import PASSED_SIGNALS

if TYPE_CHECKING:
    from proxy.activation.starter import Starter

logger = logging.getLogger(__name__)


class Passing:
    """Passes on, in order, what comes after `listen`."""

    def __init__(self, starter: Starter) -> None:
        self._starter = starter
        self._tasks: set[asyncio.Task[None]] = set()

    def listen(self) -> None:
        loop = asyncio.get_running_loop()
        for number in PASSED_SIGNALS:
            loop.add_signal_handler(number, self._came, signal.Signals(number).name)

    def _came(self, name: str) -> None:
        task = asyncio.create_task(self._pass_on(name), name=f"pass on {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, name: str) -> None:
        try:
            await self._starter.signal(name)
        except ActivationError as error:
            logger.warning("cannot pass a signal on", extra={"signal": name, "error": str(error)})
