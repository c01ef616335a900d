"""Tells an upstream that runs while it is dormant of the init.

What it cannot be told, or does not heed, is served by a fresh start, as good as the launcher has
it: from a preload, or cold. Either way the upstream is what it would be after a cold start with the
same request; how it came about, and why not better, is told in `Started`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING, Final

from proxy.activation.launched.starter import NOTHING_PRELOADED
from proxy.activation.starter import Outlook, Started
from proxy.activation.waiting.dormancy import Dormancy
from proxy.activation.waiting.way import UnfitError
from proxy.errors import ActivationError, LauncherGoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.launched.starter import LaunchedStarter
    from proxy.activation.starter import Found
    from proxy.activation.waiting.way import Waiting, Way
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)

# Seconds for the launcher's word of an upstream's end to come after a connection that has broken.
_LAST_WORDS: Final = 0.5
# Seconds for a dormant upstream to take its own directories away; somebody waits for its successor.
_FAREWELL: Final = 2.0


class WaitingStarter:
    """The `Starter` for an upstream that waits in its `way`.

    `launched` starts it, dormant or fresh. `demanded`: it is not to be started in another way when
    it cannot wait at all. `ending` tells whether nothing more is to be started.
    """

    def __init__(
        self,
        way: Way,
        launched: LaunchedStarter,
        *,
        demanded: bool,
        ending: Callable[[], bool],
    ) -> None:
        self._way = way
        self._launched = launched
        self._demanded = demanded
        self._ending = ending
        self._out: str | None = None  # why no dormant upstream is tried any more
        self._dormancy = Dormancy(come_up=way.come_up, kill=self._end, on_unfit=self._give_up)
        self.owned_pids = launched.owned_pids
        self.found: Found | None = None
        self._judged: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<WaitingStarter {self._way!r} {self._dormancy!r} out={self._out!r}>"

    @property
    def warmed(self) -> asyncio.Future[str | None]:
        renewable = self._judged.done() and self._out is not None
        return self._launched.warmed if renewable else self._judged

    @property
    def unready(self) -> str | None:
        """What an init would have to wait for, or None."""
        return self._dormancy.unready if self._out is None else self._launched.unready

    @property
    def outlook(self) -> Outlook:
        if self._out is None:
            return Outlook(self._way.kind, self._dormancy.unready)
        kind, why = self._launched.outlook
        return Outlook(kind, "; ".join(filter(None, (self._out, why))) or None)

    @property
    def waits(self) -> bool:
        """Whether there is a dormant upstream, which may be asked for what it leaves open."""
        return self._out is None and self._dormancy.unready is None

    async def open(self) -> None:
        """Have an upstream come up dormant, or find one.

        Raises `ActivationError` when it must be able to be dormant and is not.
        """
        await self._launched.open()
        if await self._find():
            return
        why = await asyncio.shield(self._dormancy.outcome)
        if self._out is not None:
            if self._demanded:
                raise ActivationError(f"upstream.dormancy is {self._way.kind}, but {why}")
            why = await asyncio.shield(self._launched.warmed)
        if not self._judged.done():
            self._judged.set_result(why)

    async def hasten(self) -> None:
        """An upstream that comes up is not overtaken by a cold start; a recording may be."""
        if self._out is not None:
            await self._launched.hasten()

    async def start(self, plan: Plan) -> Started:
        """Tell who waits of the init, or start anew. Raises `ActivationError`."""
        if self._out is not None:
            return await self._anew(plan, self._out)
        why = self._way.objection(plan) or await self._hindrance()
        waiting = self._dormancy.take() if why is None else None
        if why is None and waiting is not None:
            answer = await self._tell(waiting, plan)
            if isinstance(answer, Started):
                return answer
            why = answer
        await self._dormancy.cease()
        await self._end()
        return await self._anew(plan, why or "the dormant upstream has just died")

    async def stop(self) -> None:
        await self._dormancy.cease()
        await self._launched.stop()
        if self._ending():
            return
        if self._out is None:
            self._dormancy.begin()
        else:
            await self._launched.preload()

    async def kill(self) -> None:
        await self._dormancy.cease()
        await self._launched.kill()

    async def signal(self, name: str) -> None:
        await self._launched.signal(name)

    def renew(self) -> None:
        """The fork server, if there is one; a dormant upstream is another one already."""
        self._launched.renew()

    async def close(self) -> None:
        await self._dormancy.cease()
        await self._launched.close()

    async def _find(self) -> bool:
        """Whether an upstream of a predecessor's serves its user already; else one comes up."""
        found = self._launched.found
        if found is not None and found.plan is not None:
            if not await self._way.is_vacant(found.plan):
                self.found = found
                return True
            self._launched.disown()
            waiting = await self._way.adopt(found)
            if waiting is not None:
                self._dormancy.settle(waiting)
                return False
            await self._end()
        await self._begin()
        return False

    async def _begin(self) -> None:
        """Have a dormant upstream come up, unless it is known beforehand that there can be none."""
        why = await self._way.hopeless()
        if why is None:
            self._dormancy.begin()
            return
        self._out = ""  # of such a server nothing better can be expected, and nothing is said
        await self._launched.preload()
        self._dormancy.rule_out(why)

    async def _hindrance(self) -> str | None:
        """Why there is nobody to be told, or None as soon as there is."""
        if self._dormancy.unready is not None and self._launched.is_warm:
            return "no upstream was dormant yet"
        return await asyncio.shield(self._dormancy.outcome)

    async def _tell(self, waiting: Waiting, plan: Plan) -> Started | str:
        """The upstream that was told of the init, or why it is to be started anew."""
        started = dataclasses.replace(waiting.started, kind=self._way.kind, why=None)
        try:
            why = await self._way.tell(waiting, plan)
        except LauncherGoneError:
            raise
        except UnfitError as error:
            self._out = why = str(error)
        except ActivationError:
            if await _has_ended(started):
                return started
            raise
        return started if why is None else why

    async def _end(self) -> None:
        """End what serves nobody."""
        await self._launched.kill(_FAREWELL)

    async def _anew(self, plan: Plan, why: str) -> Started:
        started = await self._launched.start(plan)
        try:
            await self._way.complete(started, plan)
        except ActivationError:
            if not await _has_ended(started):
                raise
        other = None if why and started.why == NOTHING_PRELOADED else started.why
        return dataclasses.replace(started, why="; ".join(filter(None, (why, other))) or None)

    async def _give_up(self, why: str) -> None:
        logger.warning("the upstream is not dormant by itself", extra={"reason": why})
        self._out = why
        await self._launched.preload()


async def _has_ended(started: Started) -> bool:
    """Whether that is why it could not be told: then its end says more, to whoever watches it."""
    await asyncio.wait({started.exited}, timeout=_LAST_WORDS)
    return started.exited.done()
