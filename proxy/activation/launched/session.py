"""The life of launchers: one at a time, watched, and followed by another when it is lost.

Where they live is the `Place`'s affair; what they are told and tell is the starter's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from proxy.activation.backoff import Backoff
from proxy.activation.tasks import cancel, failed
from proxy.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.runs import Runs

    OnEvent = Callable[[dict[str, Any]], None]

logger = logging.getLogger(__name__)

# Seconds over the grace for a stop to be answered: twice 5 s for the killed to go, then the files.
_STOP_MARGIN: Final = 20.0


class Place(Protocol):
    """Where launchers live.

    `apart`: in a container of their own, which ends with them.
    """

    @property
    def apart(self) -> bool: ...

    async def launch(self, on_event: OnEvent) -> Launcher:
        """One that has said hello. Raises `LauncherError`."""

    async def bury(self, launcher: Launcher, runs: Runs) -> str:
        """Await its end, and let nothing of its `runs` outlive it; returns how it has ended."""

    def owned_pids(self) -> frozenset[int]:
        """Children of the proxy's among them that are waited for here and nowhere else."""


class Session:
    """A launcher at `place`, opened when it is needed and again after a loss.

    `on_event` gets what it tells; `prepare(launcher)` is awaited with each new one before anybody
    uses it; `on_lost(reason)` hears of the end of one, once nothing of its `runs` is left, and of
    each that could not be had in its place.
    """

    def __init__(
        self,
        place: Place,
        runs: Runs,
        *,
        on_event: OnEvent,
        prepare: Callable[[Launcher], Awaitable[object]],
        on_lost: Callable[[str], None],
    ) -> None:
        self._place = place
        self._runs = runs
        self._on_event = on_event
        self._prepare = prepare
        self._on_lost = on_lost
        self._launcher: Launcher | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._backoff = Backoff()
        self._hurried = asyncio.Event()
        self._closing = False

    def __repr__(self) -> str:
        return f"<Session launcher={self._launcher.pid if self._launcher is not None else None}>"

    async def open(self) -> None:
        """See that there is a launcher, and that it is prepared. Raises `LauncherError`."""
        self._hurried.set()
        last = self._opening
        if last is not None and failed(last):
            # Tried again: what was lacking (memory, a descriptor) may be there now.
            if self._watching is not None:
                await asyncio.wait([self._watching])
            if self._opening is last:
                self._opening = None
        if self._opening is None:
            self._opening = asyncio.create_task(self._open(), name="open launcher")
        await asyncio.shield(self._opening)

    async def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """As `Link.call`. Raises `LauncherError`."""
        if self._launcher is None:
            raise LauncherError(f"cannot {op}: there is no launcher")
        return await self._launcher.link.call(op, **fields)

    async def stop(self, grace: float) -> None:
        """TERM, `grace` seconds, KILL, stragglers, undo the files. Raises `LauncherError`.

        With less grace than before it shortens a stop that is under way.
        """
        launcher = self._launcher
        if launcher is None or launcher.link.closed.done():
            return
        if not launcher.reaped:
            # One that somebody has stopped (SIGSTOP) would sleep through this.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(launcher.pid, signal.SIGCONT)
        try:
            async with asyncio.timeout(grace + _STOP_MARGIN):
                await launcher.link.call("stop", grace=grace)
            self._runs.undone()
        except TimeoutError:
            await launcher.end()
            raise LauncherError("cannot stop: the launcher did not answer") from None

    async def close(self, grace: float) -> None:
        """Stop, and have done with the launcher. What goes wrong is logged."""
        self._closing = True
        await cancel(self._opening)
        try:
            await self.stop(grace)
        except LauncherError as error:
            logger.error("cannot stop the upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        await cancel(self._watching)
        if self._launcher is not None:
            await self._launcher.end()
            self._launcher = None

    async def _open(self) -> None:
        launcher = self._launcher = await self._place.launch(self._on_event)
        self._watching = asyncio.create_task(self._watch(launcher), name="watch launcher")
        try:
            await self._prepare(launcher)
        except LauncherError:
            await launcher.end()  # so that the next try finds none
            raise

    async def _watch(self, launcher: Launcher) -> None:
        begun = time.monotonic()
        how = await self._place.bury(launcher, self._runs)
        self._backoff.died(time.monotonic() - begun)
        self._launcher = self._opening = None
        self._on_lost(f"the launcher {how}")
        self._follow()

    def _follow(self) -> None:
        """Have another one: losing one costs a restart, not the pod, nor the next user's time."""
        if self._closing:
            return
        self._hurried.clear()
        self._opening = asyncio.create_task(self._open_again(), name="open launcher again")
        self._opening.add_done_callback(self._opened_again)

    async def _open_again(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._backoff.next()):
                await self._hurried.wait()
        await self._open()

    def _opened_again(self, opening: asyncio.Task[None]) -> None:
        error = None if opening.cancelled() else opening.exception()
        if error is None:
            return
        # Nobody may have been waiting for it.
        logger.error("cannot use the launcher", extra={"error": str(error)})
        if self._launcher is None and self._opening is opening:  # else its end is seen in `_watch`
            self._on_lost(str(error))
            self._follow()
