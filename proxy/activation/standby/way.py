"""An upstream that runs while it is dormant, configured as the pod is, and is told by requests.

What was told stays in it: who comes after its user gets another. What no request tells (a variable,
an argument, a file) needs a start of its own, after which the same requests are made.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING

from proxy.activation.standby.telling import tell
from proxy.activation.waiting.way import FallenError, UnfitError, Waiting
from proxy.errors import ActivationError
from proxy.lifecycle.told.standby import standby_plan, unlike

if TYPE_CHECKING:
    from proxy.activation.attempt import Ready
    from proxy.activation.launched.starter import LaunchedStarter
    from proxy.activation.starter import Found, Started, StartKind
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings


class StandbyWay:
    """The `Way` for `upstream.dormancy: standby`, and `auto` where requests are described.

    `launched` starts the upstream, `probe` tells when it can be told.
    """

    kind: StartKind = "standby"

    def __init__(
        self, upstream: UpstreamSettings, launched: LaunchedStarter, probe: Ready, *, run_dir: str
    ) -> None:
        self._upstream = upstream
        self._launched = launched
        self._probe = probe
        self._plan = standby_plan(upstream, run_dir=run_dir)

    def __repr__(self) -> str:
        names = [request.name for request in self._upstream.standby.requests]
        return f"<StandbyWay requests={names}>"

    async def hopeless(self) -> str | None:
        return None

    async def come_up(self) -> Waiting:
        started = await self._launched.start(self._plan)
        limit = self._upstream.preload.timeout
        try:
            async with asyncio.timeout(limit):
                await self._probe.wait(started.exited)
        except TimeoutError:
            why = self._probe.last_failure
            late = f"the upstream was not ready within preload.timeout ({limit:g} s): {why}"
            raise UnfitError(late) from None
        except ActivationError as error:
            raise FallenError(str(error)) from None
        return Waiting(started, self._plan)

    async def is_vacant(self, plan: Plan) -> bool:
        return bool(plan.key) or plan.untold

    async def adopt(self, found: Found) -> Waiting | None:
        if found.plan is None or found.plan.key != self._plan.key:
            return None
        if unlike(found.plan, self._plan) is not None:  # of a proxy with other settings
            return None
        return Waiting(found.started, found.plan)

    def objection(self, plan: Plan) -> str | None:
        return unlike(self._plan, plan)

    async def tell(self, waiting: Waiting, plan: Plan) -> str | None:  # noqa: ARG002  any will do
        why = await self._launched.given(plan)
        if why is None:
            await self._make_requests(plan)
        return why

    async def complete(self, started: Started, plan: Plan) -> None:
        if plan.requests:
            await self._probe.wait(started.exited)
            await self._make_requests(plan)

    async def _make_requests(self, plan: Plan) -> None:
        await tell(self._upstream.url, plan.requests, self._begun)
        if plan.untold:  # a proxy that takes it over finds it somebody's
            why = await self._launched.given(dataclasses.replace(plan, untold=False))
            if why is not None:
                raise ActivationError(why)

    def _begun(self, name: str) -> None:
        self._probe.last_failure = f"{name} is not answered"
