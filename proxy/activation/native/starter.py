"""Passes an init on to an upstream that waits in a dormant mode of its own.

What its own init cannot express, or does not bring about, is served by a fresh start, as good as
the launcher has it: from a preload, or cold. Either way the upstream is what it would be after a
cold start with the same request; how it came about, and why not better, is told in `Started`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.launched.starter import NOTHING_PRELOADED
from proxy.activation.native.dormancy import Dormancy
from proxy.activation.native.effects import missing
from proxy.activation.owninit import RefusedInitError
from proxy.activation.starter import Outlook, Started
from proxy.activation.tasks import cancel
from proxy.errors import ActivationError, LauncherError, LauncherGoneError
from proxy.lifecycle.plan import dormant_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.launched.starter import LaunchedStarter
    from proxy.activation.native.dormancy import Waiting
    from proxy.activation.starter import Found
    from proxy.lifecycle.plan import Plan
    from proxy.settings import NativeSettings, UpstreamSettings

logger = logging.getLogger(__name__)

# Seconds for the launcher's word of an upstream's end to come after a connection that has broken.
_LAST_WORDS: Final = 0.5
# Seconds for a dormant upstream to take its own directories away; somebody waits for its successor.
_FAREWELL: Final = 2.0


class NativeStarter:
    """The `Starter` for `upstream.dormancy: native` and `auto`.

    `launched` starts the upstream, dormant or fresh. `on_key` hears of each key of the upstream's
    own init before it is used; `passes` tells why the readiness probe does not pass, None when it
    does; `ending` whether nothing more is to be started.
    """

    def __init__(
        self,
        upstream: UpstreamSettings,
        native: NativeSettings,
        launched: LaunchedStarter,
        *,
        run_dir: str,
        on_key: Callable[[str], None],
        passes: Callable[[], Awaitable[str | None]],
        ending: Callable[[], bool],
    ) -> None:
        self._demanded = upstream.dormancy == "native"
        self._native = native
        self._url = upstream.url
        self._launched = launched
        self._ending = ending
        self._out: str | None = None  # why no dormant upstream is tried any more
        self._ineffective: dict[str, str] = {}  # fields that its init takes in vain, and how so
        self._dormancy = Dormancy(
            upstream.url,
            native.path,
            start=launched.start,
            kill=self._end,
            plan=lambda key: dormant_plan(upstream, native, key, run_dir=run_dir),
            on_key=on_key,
            passes=passes,
            on_unfit=self._give_up,
            limit=upstream.preload.timeout,
        )
        self.owned_pids = launched.owned_pids
        self.found: Found | None = None
        self.lost = launched.lost
        self._judged: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<NativeStarter {self._dormancy!r} out={self._out!r} {self._launched!r}>"

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
            return Outlook("native", self._dormancy.unready)
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
                raise ActivationError(f"upstream.dormancy is native, but {why}")
            why = await asyncio.shield(self._launched.warmed)
        if not self._judged.done():
            self._judged.set_result(why)

    async def hasten(self) -> None:
        """An upstream that comes up is not overtaken by a cold start; a recording may be."""
        if self._out is not None:
            await self._launched.hasten()

    async def start(self, plan: Plan) -> Started:
        """Pass the init on, or start anew what cannot have it so. Raises `ActivationError`."""
        if self._out is not None:
            return await self._anew(plan, self._out)
        why = plan.fresh or await self._hindrance(plan)
        waiting = self._dormancy.take() if why is None else None
        if why is None and waiting is not None:
            answer = await self._pass_on(waiting, plan)
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
            if not await self._is_vacant(found.plan):
                self.found = found
                return True
            self._launched.disown()
            if found.plan.key and await self._dormancy.adopt(found.started, found.plan.key):
                return False
            await self._end()
        await self._begin()
        return False

    async def _begin(self) -> None:
        """Have a dormant upstream come up, unless it is known beforehand that there can be none."""
        module = self._native.module
        if module is None or not await self._launched.lacks(module):
            self._dormancy.begin()
            return
        self._out = ""  # of such a server nothing better can be expected, and nothing is said
        await self._launched.preload()
        self._dormancy.rule_out(f"the upstream has no module {module}")

    async def _is_vacant(self, plan: Plan) -> bool:
        """Whether nobody was told that the upstream, which runs by `plan`, is ready."""
        if plan.key:
            return True
        # A predecessor may have ended while it passed an init on; whoever posted it does so again.
        own = self._dormancy.own_init()
        try:
            return bool(plan.request) and await own.state() in {"dormant", "initializing"}
        finally:
            await own.close()

    async def _hindrance(self, plan: Plan) -> str | None:
        """Why the init is not to be passed on, or None as soon as it can be."""
        fields = json.loads(plan.request)
        for name, why in self._ineffective.items():
            if name in fields:
                return f"its own init has no effect on {name}: {why}"
        if self._dormancy.unready is not None and self._launched.is_warm:
            return "no upstream was dormant yet"
        why_not = await asyncio.shield(self._dormancy.outcome)
        if why_not is not None:
            return why_not
        try:
            await self._launched.given(plan)
        except LauncherGoneError:
            raise
        except LauncherError as error:
            return str(error)
        return None

    async def _pass_on(self, waiting: Waiting, plan: Plan) -> Started | str:
        """The upstream that has taken the init, or why it is to be started anew."""
        started = dataclasses.replace(waiting.started, kind="native", why=None)
        try:
            await self._post(waiting, plan)
            lacking = await missing(waiting.own, self._native, json.loads(plan.request))
        except RefusedInitError as error:
            return f"its own init refused the request ({error.place})"
        except ActivationError:
            # Its end, if that is what it was, says more, and is reported by whoever watches it.
            await asyncio.wait({started.exited}, timeout=_LAST_WORDS)
            if started.exited.done():
                return started
            raise
        finally:
            await waiting.own.close()
        if not lacking:
            return started
        for name, seen in lacking.items():
            logger.warning("an init of its own has no effect", extra={"field": name, "seen": seen})
        self._ineffective |= lacking
        (name, seen), *_ = lacking.items()
        why = f"its own init has no effect on {name}: {seen}"
        if "session_api_keys" in lacking:
            self._out = why  # hardly any init comes without
        return why

    async def _post(self, waiting: Waiting, plan: Plan) -> None:
        posting = asyncio.create_task(waiting.own.post(plan.request), name="pass on")
        try:
            both: set[asyncio.Future[Any]] = {posting, waiting.started.exited}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not posting.done():
                raise ActivationError("the upstream ended")
            posting.result()
        finally:
            await cancel(posting)

    async def _end(self) -> None:
        """End what serves nobody."""
        await self._launched.kill(_FAREWELL)

    async def _anew(self, plan: Plan, why: str) -> Started:
        started = await self._launched.start(plan)
        other = None if why and started.why == NOTHING_PRELOADED else started.why
        return dataclasses.replace(started, why="; ".join(filter(None, (why, other))) or None)

    async def _give_up(self, why: str) -> None:
        logger.warning("the upstream is not dormant by itself", extra={"reason": why})
        self._out = why
        await self._launched.preload()
