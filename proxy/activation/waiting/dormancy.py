"""Sees to it that an upstream waits for an init, whatever becomes of the one before."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import TYPE_CHECKING, Final

from proxy.activation.backoff import Backoff
from proxy.activation.tasks import cancel
from proxy.activation.waiting.way import FallenError, UnfitError
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.starter import Exit
    from proxy.activation.waiting.way import Waiting

logger = logging.getLogger(__name__)

# Times that it may end before it waited, until an init is passed on. After that it
# is taken for one that cannot wait so.
_FALLS: Final = 3


class Dormancy:
    """One dormant upstream at a time, replaced when it dies (`begin`), given away by `take`.

    `come_up` starts one and returns when it waits (`Way.come_up`), `kill` ends what runs.
    """

    def __init__(
        self,
        *,
        come_up: Callable[[], Awaitable[Waiting]],
        kill: Callable[[], Awaitable[None]],
        on_unfit: Callable[[str], Awaitable[None]],
    ) -> None:
        self._come_up = come_up
        self._kill = kill
        self._on_unfit = on_unfit
        self._backoff = Backoff(_FALLS, math.inf)
        self._task: asyncio.Task[None] | None = None
        self._waiting: Waiting | None = None
        # Of the running attempt: None, or why there is no dormant upstream.
        self.outcome: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<Dormancy waiting={self._waiting is not None} outcome={self.outcome!r}>"

    @property
    def unready(self) -> str | None:
        """What an init would have to wait for, or None."""
        return self.outcome.result() if self.outcome.done() else "the upstream is not dormant yet"

    def begin(self) -> None:
        """Have one come up."""
        self._renew()
        self._task = asyncio.create_task(self._until_one_waits(), name="dormant upstream")

    def rule_out(self, why: str) -> None:
        """None will come up."""
        self._renew()
        self._tell(why)

    def take(self) -> Waiting | None:
        """The one that waits, which is the caller's from now on; None when none does."""
        waiting, self._waiting = self._waiting, None
        self._backoff.reset()
        return waiting

    async def cease(self) -> None:
        """Have none. Whatever runs is left to the caller."""
        await cancel(self._task)
        self._task = None
        self._waiting = None

    def settle(self, waiting: Waiting) -> None:
        """This one waits."""
        self._waiting = waiting
        waiting.started.exited.add_done_callback(self._died)
        if not self.outcome.done():
            self.outcome.set_result(None)
        logger.info("the upstream is dormant", extra={"upstream": waiting.started.pid})

    def _renew(self) -> None:
        if self.outcome.done():
            self.outcome = asyncio.get_running_loop().create_future()

    def _died(self, exited: asyncio.Future[Exit]) -> None:
        waiting = self._waiting
        if waiting is None or waiting.started.exited is not exited or exited.cancelled():
            return  # it was given away, or ended on purpose
        logger.error(
            "the dormant upstream died", extra={"error": f"the upstream {exited.result().reason}"}
        )
        self._waiting = None
        self.begin()

    async def _until_one_waits(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next())
            self._renew()
            try:
                self.settle(await self._come_up())
            except FallenError as error:
                self._backoff.died()
                if await self._failed(error, unfit=self._backoff.spent):
                    return
            except ActivationError as error:
                if await self._failed(error, unfit=isinstance(error, UnfitError)):
                    return
            except Exception as error:
                logger.exception("cannot start the upstream dormant")
                await self._end()
                self._tell(f"internal error: {type(error).__name__}")
            else:
                return

    async def _failed(self, error: ActivationError, *, unfit: bool) -> bool:
        """Have nothing run, and tell; whether no other is to be tried."""
        if not unfit:
            logger.error("cannot start the upstream dormant", extra={"error": str(error)})
        await self._end()
        if unfit:
            await self._on_unfit(str(error))
        self._tell(str(error))
        return unfit

    def _tell(self, why: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(why)

    async def _end(self) -> None:
        try:
            await self._kill()
        except ActivationError as error:
            logger.error("cannot end the dormant upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        except Exception:
            # Nor may this leave everybody waiting for a dormant upstream.
            logger.exception("cannot end the dormant upstream")
