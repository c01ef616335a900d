"""The state while a fork server is made: at the boot, and for another user after the last one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    import asyncio

    from proxy.activation.starter import Starter
    from proxy.lifecycle.state import Lifecycle

logger = logging.getLogger(__name__)


class Preloaded(NamedTuple):
    """How many modules were imported, of how many that the upstream loads."""

    imported: int
    modules: int


class Warming:
    """What is preloaded while it is, and the state meanwhile."""

    def __init__(self, lifecycle: Lifecycle) -> None:
        self._lifecycle = lifecycle
        self._starter: Starter | None = None
        self.preloaded = Preloaded(0, 0)

    def follow(self, starter: Starter) -> None:
        """Before an init may wait for it as well: the state must have changed by then."""
        self._starter = starter
        starter.warmed.add_done_callback(self._warmed)
        self._lifecycle.subscribe(self._changed)

    def progressed(self, imported: int, modules: int) -> None:
        self.preloaded = Preloaded(imported, modules)
        logger.info("warming", extra={"imported": imported, "modules": modules})
        starter, dormant = self._starter, self._lifecycle.state is State.DORMANT
        if dormant and starter is not None and not starter.warmed.done():
            # The error of an init that has failed stays to be read.
            self._lifecycle.apply(Event.COOLED, self._lifecycle.error)
            starter.warmed.add_done_callback(self._warmed)

    def _changed(self, _state: State, event: Event) -> None:
        if event is Event.INIT_FAILED and self._starter is not None:
            self._starter.renew()

    def _warmed(self, warmed: asyncio.Future[str | None]) -> None:
        if self._lifecycle.state is State.WARMING and not warmed.cancelled():
            self._lifecycle.apply(Event.WARMED, self._lifecycle.error)
