"""Rehearses what can only start cold: once, with made-up values, to its readiness, and ended.

That fills the page cache, and the caches of bytecode and compiled code that the server has: a
start that follows finds them. Nothing else of it is left when the first init is accepted.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from proxy.activation.tasks import cancel
from proxy.errors import ActivationError, ProxyError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.attempt import Ready
    from proxy.activation.launched.starter import LaunchedStarter
    from proxy.activation.starter import Found, Outlook, Started
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)


class RehearsingStarter:
    """The `Starter` for `upstream.rehearsal`.

    `launched` starts the upstream, by `plan()` for a rehearsal, which has `limit` seconds; `probe`
    tells when it is ready.
    """

    def __init__(
        self, launched: LaunchedStarter, plan: Callable[[], Plan], probe: Ready, *, limit: float
    ) -> None:
        self._launched = launched
        self._plan = plan
        self._probe = probe
        self._limit = limit
        self._rehearsing: asyncio.Task[None] | None = None
        self._hastened = False
        self.owned_pids = launched.owned_pids
        self.found: Found | None = None
        self._judged: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()

    def __repr__(self) -> str:
        return f"<RehearsingStarter {self._launched!r} rehearsing={self._rehearsing is not None}>"

    @property
    def warmed(self) -> asyncio.Future[str | None]:
        return self._launched.warmed if self._judged.done() else self._judged

    @property
    def unready(self) -> str | None:
        return self._launched.unready

    @property
    def waits(self) -> bool:
        return self._launched.waits

    @property
    def outlook(self) -> Outlook:
        return self._launched.outlook

    async def open(self) -> None:
        """Have what can be warmed warmed, and rehearse what cannot. Raises `LauncherError`."""
        await self._launched.open()
        found = self._launched.found
        if found is not None:
            if found.plan is None or not found.plan.key:
                self.found = found
                return
            self._launched.disown()  # a predecessor's rehearsal
            await self._launched.kill()
        why = await asyncio.shield(self._launched.warmed)
        if why is not None and not self._hastened:
            self._rehearsing = asyncio.create_task(self._rehearse(), name="rehearsal")
            await asyncio.wait({self._rehearsing})
            self._rehearsing = None
        if not self._judged.done():
            self._judged.set_result(why)

    async def hasten(self) -> None:
        """Give the warming up, and the rehearsal."""
        self._hastened = True
        await self._launched.hasten()
        await cancel(self._rehearsing)

    async def start(self, plan: Plan) -> Started:
        return await self._launched.start(plan)

    async def stop(self) -> None:
        await self._launched.stop()

    async def kill(self) -> None:
        await self._launched.kill()

    async def signal(self, name: str) -> None:
        await self._launched.signal(name)

    def renew(self) -> None:
        self.found = None
        self._launched.renew()

    async def close(self) -> None:
        await cancel(self._rehearsing)
        await self._launched.close()

    async def _rehearse(self) -> None:
        begun = time.monotonic()
        try:
            await self._to_readiness()
            took = round(time.monotonic() - begun, 3)
            await self._launched.stop()  # with grace: some write their caches at their end
            logger.info("rehearsed", extra={"seconds": took})
        except ProxyError as error:
            logger.warning("cannot rehearse", extra={"error": str(error)})
        except Exception:
            # Nor may this leave the pod without its init.
            logger.exception("cannot rehearse")
        finally:
            await self._end()

    async def _to_readiness(self) -> None:
        started = await self._launched.start(self._plan())
        try:
            async with asyncio.timeout(self._limit):
                await self._probe.wait(started.exited)
        except TimeoutError:
            why = self._probe.last_failure
            late = f"not ready within preload.timeout ({self._limit:g} s): {why}"
            raise ActivationError(late) from None

    async def _end(self) -> None:
        """Whatever became of it, nothing of it is left."""
        try:
            await self._launched.kill()
        except ActivationError as error:
            logger.error("cannot end the rehearsal", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
