"""Activates an upstream that runs by itself: delivers files to it, then signals it.

For containers that share a volume and a process namespace with the proxy. The upstream (or the
shell that becomes it) finds `<run_dir>/environment` and the plan's other files; that one is the
last to be written. What it is told, and how it is known, are `upstream.signal`.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING, Final

from proxy.activation.signalled.target import Target
from proxy.activation.starter import Exit, Outlook, Started
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.signalled.delivery import Delivery
    from proxy.activation.signalled.target import Held
    from proxy.activation.starter import Found
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings

logger = logging.getLogger(__name__)

_POLL: Final = 0.02  # seconds between looks for a process that is to appear
_WHY_COLD: Final = "it is activated by files and a signal"


class SignalStarter:
    """The `Starter` for `upstream.activation: signal`."""

    def __init__(self, upstream: UpstreamSettings, delivery: Delivery) -> None:
        loop = asyncio.get_running_loop()
        told = upstream.signal
        self._target = Target(told.pidfile, told.process)
        self._signal = signal.Signals[told.signal] if told.signal is not None else None
        self._restarts = told.restarts
        self._grace = upstream.stop_grace
        self._stop_signal = signal.Signals[upstream.stop_signal]
        self._delivery = delivery
        self._held: Held | None = None
        self._hurry = asyncio.Event()
        self.found: Found | None = None
        self.unready: str | None = None
        self.waits = False
        self.outlook = Outlook("cold", _WHY_COLD)
        self.warmed: asyncio.Future[str | None] = loop.create_future()

    def __repr__(self) -> str:
        return f"<SignalStarter {self._target} pid={self._held.found.pid if self._held else None}>"

    async def open(self) -> None:
        """Undo what a predecessor that was killed has left behind."""
        if self._delivery.recover():
            await self.stop()
        if not self.warmed.done():
            self.warmed.set_result(_WHY_COLD)

    async def hasten(self) -> None:
        """Nothing is warmed."""

    async def start(self, plan: Plan) -> Started:
        """Write, signal, and find who took it. Waits for a process that is not there yet."""
        if self._delivery.may_be_known(plan):
            await self._end_unseen(plan)
        before = await self._appears(lambda _held: True) if self._signal is not None else None
        try:
            self._delivery.write(plan)
            if before is not None and self._signal is not None:
                before.signal(self._signal)
                logger.info(
                    "signalled", extra={"pid": before.found.pid, "signal": self._signal.name}
                )
        except BaseException:
            if before is not None:
                before.close()
            raise
        return await self._taken_up(before)

    async def _taken_up(self, before: Held | None) -> Started:
        """The process that runs with what was delivered, watched for its end."""
        if before is not None and not self._restarts:
            self._held = before
        elif self._target.named:
            if before is not None:
                await before.ended
            self._held = await self._appears(lambda held: before is None or held is not before)
        exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        if self._held is None:
            return Started(pid=0, kind="cold", why=_WHY_COLD, exited=exited)
        self._held.ended.add_done_callback(lambda _ended: _report(exited))
        return Started(pid=self._held.found.pid, kind="cold", why=_WHY_COLD, exited=exited)

    async def _appears(self, wanted: Callable[[Held], bool]) -> Held:
        """The target, as soon as it is there. The activation has the deadline."""
        while True:
            found = self._target.find()
            held = self._target.hold(found) if found is not None else None
            if held is not None and wanted(held):
                return held
            await asyncio.sleep(_POLL)

    async def stop(self) -> None:
        """Undo the files, then end the process that has read them."""
        held, self._held = self._held, None
        if self._delivery.undo():  # first: whoever takes its place must not find the files
            await self._end(held or self._look())

    def _look(self) -> Held | None:
        found = self._target.find() if self._target.named else None
        return self._target.hold(found) if found is not None else None

    async def _end(self, held: Held | None) -> None:
        if held is not None:
            logger.info("ending the upstream", extra={"pid": held.found.pid})
            await held.end(self._stop_signal, 0 if self._hurry.is_set() else self._grace)
            held.close()
            if held.ended.done():
                self._delivery.forget()

    async def _end_unseen(self, plan: Plan) -> None:
        """Nobody who runs with one user's delivery may be taken for the next one's upstream."""
        await self._end(self._look())
        if self._delivery.may_be_known(plan):
            raise ActivationError(
                "cannot start: a process that was not seen may have read what an earlier init"
                " delivered; replace the pod, or send that init again"
            )

    async def kill(self) -> None:
        """As `stop`, without grace."""
        self._hurry.set()
        await self.stop()

    async def signal(self, name: str) -> None:
        if self._held is not None:
            self._held.signal(signal.Signals[name])

    def renew(self) -> None:
        """Nothing is warmed."""

    async def close(self) -> None:
        await self.stop()

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()


def _report(exited: asyncio.Future[Exit]) -> None:
    if not exited.done():
        # Not our child: its exit code is its own parent's to know.
        exited.set_result(Exit(code=1, reason="has ended"))
