"""A dormant mode of the upstream's own, and its own init, to which ours is passed on.

Whether a server has such a mode is found out from the one that runs: it says that its state is
dormant, or it becomes ready and says nothing of the kind (`UnfitError`).
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.native.effects import missing
from proxy.activation.owninit import SILENT, OwnInit, RefusedInitError
from proxy.activation.tasks import cancel
from proxy.activation.waiting.way import FallenError, UnfitError, Waiting
from proxy.errors import ActivationError
from proxy.lifecycle.plan import dormant_plan

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.launched.starter import LaunchedStarter
    from proxy.activation.starter import Found, Started, StartKind
    from proxy.lifecycle.plan import Plan
    from proxy.settings import NativeSettings, UpstreamSettings

logger = logging.getLogger(__name__)

_POLL: Final = 0.05  # seconds between two looks at an upstream that comes up
_KEY_BYTES: Final = 32


class NativeWay:
    """The `Way` for `upstream.dormancy: native`, and `auto` where the profile knows how.

    `launched` starts the upstream. `on_key` hears of each key of its own init before it is used;
    `passes` tells why the readiness probe does not pass, None when it does.
    """

    kind: StartKind = "native"

    def __init__(
        self,
        upstream: UpstreamSettings,
        native: NativeSettings,
        launched: LaunchedStarter,
        *,
        run_dir: str,
        on_key: Callable[[str], None],
        passes: Callable[[], Awaitable[str | None]],
    ) -> None:
        self._upstream = upstream
        self._native = native
        self._launched = launched
        self._run_dir = run_dir
        self._on_key = on_key
        self._passes = passes
        self._ineffective: dict[str, str] = {}  # fields that its init takes in vain, and how so

    def __repr__(self) -> str:
        return f"<NativeWay ineffective={sorted(self._ineffective)}>"

    async def hopeless(self) -> str | None:
        module = self._native.module
        if module is None or not await self._launched.lacks(module):
            return None
        return f"the upstream has no module {module}"

    async def come_up(self) -> Waiting:
        key = secrets.token_urlsafe(_KEY_BYTES)
        self._on_key(key)
        plan = dormant_plan(self._upstream, self._native, key, run_dir=self._run_dir)
        started = await self._launched.start(plan)
        limit = self._upstream.preload.timeout
        own = self._own_init(key)
        try:
            async with asyncio.timeout(limit):
                await self._until_dormant(started, own)
        except TimeoutError:
            late = f"the upstream was not dormant within preload.timeout ({limit:g} s)"
            raise UnfitError(late) from None
        finally:
            await own.close()
        return Waiting(started, plan)

    async def is_vacant(self, plan: Plan) -> bool:
        if plan.key:
            return True
        # A predecessor may have ended while it passed an init on; whoever posted it does so again.
        return bool(plan.request) and await self._state(None) in {"dormant", "initializing"}

    async def adopt(self, found: Found) -> Waiting | None:
        if found.plan is None or not found.plan.key:
            return None
        self._on_key(found.plan.key)
        if await self._state(found.plan.key) != "dormant":
            return None
        return Waiting(found.started, found.plan)

    def objection(self, plan: Plan) -> str | None:
        if plan.fresh is not None:
            return plan.fresh
        fields = json.loads(plan.request)
        for name, why in self._ineffective.items():
            if name in fields:
                return f"its own init has no effect on {name}: {why}"
        return None

    async def tell(self, waiting: Waiting, plan: Plan) -> str | None:
        why = await self._launched.given(plan)
        if why is not None:
            return why
        own = self._own_init(waiting.plan.key)
        try:
            await self._post(own, waiting, plan)
            lacking = await missing(own, self._native, json.loads(plan.request))
        except RefusedInitError as error:
            return f"its own init refused the request ({error.place})"
        finally:
            await own.close()
        return self._taken_in_vain(lacking) if lacking else None

    async def complete(self, started: Started, plan: Plan) -> None:
        """A start leaves nothing open."""

    def _taken_in_vain(self, lacking: dict[str, str]) -> str:
        for name, seen in lacking.items():
            logger.warning("an init of its own has no effect", extra={"field": name, "seen": seen})
        self._ineffective |= lacking
        (name, seen), *_ = lacking.items()
        why = f"its own init has no effect on {name}: {seen}"
        if "session_api_keys" in lacking:
            raise UnfitError(why)  # hardly any init comes without
        return why

    async def _post(self, own: OwnInit, waiting: Waiting, plan: Plan) -> None:
        posting = asyncio.create_task(own.post(plan.request), name="pass on")
        try:
            both: set[asyncio.Future[Any]] = {posting, waiting.started.exited}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not posting.done():
                raise ActivationError("the upstream ended")
            posting.result()
        finally:
            await cancel(posting)

    async def _until_dormant(self, started: Started, own: OwnInit) -> None:
        while (state := await own.state()) != "dormant":
            if started.exited.done():
                reason = started.exited.result().reason
                raise FallenError(f"the upstream {reason} before it was dormant")
            if state == "ready":
                raise UnfitError("the upstream says that it is ready, without an init")
            # Not before it is ready: who is coming up may answer anything.
            if state not in {None, SILENT, "initializing"} and await self._passes() is None:
                raise UnfitError("the upstream became ready and knows of no dormant state")
            await asyncio.wait({started.exited}, timeout=_POLL)

    async def _state(self, key: str | None) -> str | None:
        own = self._own_init(key)
        try:
            return await own.state()
        finally:
            await own.close()

    def _own_init(self, key: str | None) -> OwnInit:
        return OwnInit(self._upstream.url, key, self._native.path)
