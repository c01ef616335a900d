"""When to stop, and when to cut short what stopping takes: signals only say it, the loop acts."""

from __future__ import annotations

import asyncio
import logging
import signal

from proxy.server.early import heeded_signals, remembered_signals

logger = logging.getLogger(__name__)


class Stopping:
    """`asked` becomes the exit code; `cut` is set by whoever will not wait for an orderly end.

    `told`: it was asked for from outside, while all is well within.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.asked: asyncio.Future[int] = loop.create_future()
        self.cut = asyncio.Event()
        self.told = False

    def listen(self) -> None:
        """Heed the stop signals, those included that came before there was a loop."""
        for number in heeded_signals():
            self._loop.add_signal_handler(number, self._signalled, number)
        for early in remembered_signals():
            self._signalled(early)

    def ask(self, code: int) -> None:
        """Stop with this exit code, unless that was asked for already."""
        if not self.asked.done():
            self.asked.set_result(code)

    def pod_ends(self) -> None:
        """The pod's other container goes as soon as the upstream was stopped in order."""
        logger.info("stopping", extra={"cause": "the upstream's container was told to end"})
        self._tell()

    def _tell(self) -> None:
        self.told = self.told or not self.asked.done()
        self.ask(0)

    def _signalled(self, number: int) -> None:
        name = signal.Signals(number).name
        if not self.asked.done():
            logger.info("stopping", extra={"signal": name})
            self._tell()
        else:
            logger.warning("cutting", extra={"signal": name})
            self.cut.set()
