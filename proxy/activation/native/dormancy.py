"""Sees to it that a dormant upstream waits for an init, in the mode that it has for that.

Whether a server has such a mode is found out from the one that runs: it says that its state is
dormant, or it becomes ready and says nothing of the kind (`NotNativeError`).
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.activation.backoff import Backoff
from proxy.activation.owninit import SILENT, OwnInit
from proxy.activation.tasks import cancel
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.starter import Exit, Started
    from proxy.lifecycle.plan import Plan
    from proxy.settings import ServerUrl

logger = logging.getLogger(__name__)

_POLL: Final = 0.05  # seconds between two looks at an upstream that comes up
_KEY_BYTES: Final = 32
# Times that it may end before it was dormant, until an init is passed on. After that it
# is taken for one that does not bear its dormant mode.
_FALLS: Final = 3


class NotNativeError(ActivationError):
    """The server has no dormant mode, or none that works."""


@dataclass(frozen=True)
class Waiting:
    """An upstream that is dormant, and its init."""

    started: Started
    own: OwnInit


class Dormancy:
    """One dormant upstream at a time, replaced when it dies (`begin`), given away by `take`.

    `start` starts one by a plan and `kill` ends what runs; `plan` makes the plan for a key, and
    `on_key` hears of each key before it is used. `passes` tells why the upstream's readiness probe
    does not pass, None when it does. `limit` is what it has to become dormant, in seconds.
    """

    def __init__(
        self,
        url: ServerUrl,
        path: str,
        *,
        start: Callable[[Plan], Awaitable[Started]],
        kill: Callable[[], Awaitable[None]],
        plan: Callable[[str], Plan],
        on_key: Callable[[str], None],
        passes: Callable[[], Awaitable[str | None]],
        on_unfit: Callable[[str], Awaitable[None]],
        limit: float,
    ) -> None:
        self._url = url
        self._path = path
        self._start = start
        self._kill = kill
        self._plan = plan
        self._on_key = on_key
        self._passes = passes
        self._on_unfit = on_unfit
        self._limit = limit
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

    async def adopt(self, started: Started, key: str) -> bool:
        """Take one that a predecessor has left; False when it does not wait any more."""
        self._on_key(key)
        own = OwnInit(self._url, key, self._path)
        if await own.state() != "dormant":
            await own.close()
            return False
        self._settle(Waiting(started, own))
        return True

    def own_init(self) -> OwnInit:
        """The init of whatever runs at the address, to ask for its state only."""
        return OwnInit(self._url, None, self._path)

    def take(self) -> Waiting | None:
        """The one that waits, which is the caller's from now on; None when none does."""
        waiting, self._waiting = self._waiting, None
        self._backoff.reset()
        return waiting

    async def cease(self) -> None:
        """Have none. Whatever runs is left to the caller."""
        await cancel(self._task)
        self._task = None
        if self._waiting is not None:
            await self._waiting.own.close()
            self._waiting = None

    def _renew(self) -> None:
        if self.outcome.done():
            self.outcome = asyncio.get_running_loop().create_future()

    def _settle(self, waiting: Waiting) -> None:
        self._waiting = waiting
        waiting.started.exited.add_done_callback(self._died)
        if not self.outcome.done():
            self.outcome.set_result(None)
        logger.info("the upstream is dormant", extra={"upstream": waiting.started.pid})

    def _died(self, exited: asyncio.Future[Exit]) -> None:
        waiting = self._waiting
        if waiting is None or waiting.started.exited is not exited or exited.cancelled():
            return  # it was given away, or ended on purpose
        logger.error(
            "the dormant upstream died", extra={"error": f"the upstream {exited.result().reason}"}
        )
        self._waiting = None
        self._renew()
        self._task = asyncio.create_task(self._replaced(waiting), name="dormant upstream")

    async def _replaced(self, dead: Waiting) -> None:
        await dead.own.close()
        await self._until_one_waits()

    async def _until_one_waits(self) -> None:
        while True:
            await asyncio.sleep(self._backoff.next())
            self._renew()
            try:
                self._settle(await self._come_up())
            except NotNativeError as error:
                await self._end()
                await self._on_unfit(str(error))
                self._tell(str(error))
                return
            except ActivationError as error:
                logger.error("cannot start the upstream dormant", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
                await self._end()
                self._tell(str(error))
            except Exception as error:
                logger.exception("cannot start the upstream dormant")
                await self._end()
                self._tell(f"internal error: {type(error).__name__}")
            else:
                return

    def _tell(self, why: str) -> None:
        if not self.outcome.done():
            self.outcome.set_result(why)

    async def _end(self) -> None:
        try:
            await self._kill()
        except ActivationError as error:
            logger.error("cannot end the dormant upstream", extra={"error": str(error)})  # noqa: TRY400  as above
        except Exception:
            # Nor may this leave everybody waiting for a dormant upstream.
            logger.exception("cannot end the dormant upstream")

    async def _come_up(self) -> Waiting:
        key = secrets.token_urlsafe(_KEY_BYTES)
        self._on_key(key)
        started = await self._start(self._plan(key))
        own = OwnInit(self._url, key, self._path)
        try:
            async with asyncio.timeout(self._limit):
                await self._until_dormant(started, own)
        except TimeoutError:
            await own.close()
            late = f"the upstream was not dormant within preload.timeout ({self._limit:g} s)"
            raise NotNativeError(late) from None
        except BaseException:
            await own.close()
            raise
        return Waiting(started, own)

    async def _until_dormant(self, started: Started, own: OwnInit) -> None:
        while (state := await own.state()) != "dormant":
            if started.exited.done():
                raise self._fallen(started.exited.result())
            if state == "ready":
                raise NotNativeError("the upstream says that it is ready, without an init")
            # Not before it is ready: who is coming up may answer anything.
            if state not in {None, SILENT, "initializing"} and await self._passes() is None:
                raise NotNativeError("the upstream became ready and knows of no dormant state")
            await asyncio.wait({started.exited}, timeout=_POLL)

    def _fallen(self, end: Exit) -> ActivationError:
        self._backoff.died()
        text = f"the upstream {end.reason} before it was dormant"
        return NotNativeError(text) if self._backoff.spent else ActivationError(text)
