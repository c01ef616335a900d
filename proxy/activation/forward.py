"""Passes the init on to an upstream that somebody else has started, beside the proxy and dormant.

It keeps its own rules; what is added (one writer, deadline, watching, crash policy) is the proxy's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from proxy.activation.owninit import SILENT
from proxy.activation.starter import Exit, Found, Outlook, Started

if TYPE_CHECKING:
    from proxy.activation.owninit import OwnInit
    from proxy.lifecycle.plan import Plan

_APPEARS_POLL: Final = 0.1  # seconds between looks for an upstream that is not up yet
_WATCH_POLL: Final = 0.5  # seconds between looks at one that is
_WHY_COLD: Final = "its own deferred init was used"


class ForwardStarter:
    """The `Starter` for `upstream.activation: forward`."""

    def __init__(self, own: OwnInit) -> None:
        loop = asyncio.get_running_loop()
        self._own = own
        self._watching: asyncio.Task[None] | None = None
        self.found: Found | None = None
        self.unready: str | None = None
        self.waits = False
        self.outlook = Outlook("native", None)
        self.warmed: asyncio.Future[str | None] = loop.create_future()

    def __repr__(self) -> str:
        return f"<ForwardStarter {self._own!r} watching={self._watching is not None}>"

    async def open(self) -> None:
        """Wait until the upstream answers; `found` is set when somebody activated it already."""
        while (state := await self._own.state()) in {None, SILENT}:  # noqa: ASYNC110  it is another process
            await asyncio.sleep(_APPEARS_POLL)
        if state == "ready":
            self.found = Found(plan=None, started=self._watched())
        elif not self.warmed.done():
            self.warmed.set_result(_WHY_COLD)

    async def hasten(self) -> None:
        """Nothing is warmed here."""

    async def start(self, plan: Plan) -> Started:
        """Pass the init on. Raises `ActivationError` with the upstream's own words."""
        await self._own.post(plan.request)
        return self._watched()

    async def stop(self) -> None:
        """Stop watching. An init that was passed on cannot be taken back; the gate is closed."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None

    async def kill(self) -> None:
        await self.stop()

    async def signal(self, name: str) -> None:
        """Who it is, is not known."""

    def renew(self) -> None:
        """Nothing is warmed."""

    async def close(self) -> None:
        await self.stop()
        await self._own.close()

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()

    def _watched(self) -> Started:
        exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch(exited), name="watch upstream")
        return Started(pid=0, kind="native", why=None, exited=exited)

    async def _watch(self, exited: asyncio.Future[Exit]) -> None:
        """Its end shows as a refused connection, or as a successor that is dormant."""
        state: str | None = "ready"  # as it has just said: the first look may wait
        while state not in {None, "dormant"}:
            await asyncio.sleep(_WATCH_POLL)
            state = await self._own.state()
        reason = "cannot be reached" if state is None else "has started anew and is dormant"
        if not exited.done():
            exited.set_result(Exit(code=1, reason=reason))
