"""Starts upstreams through a launcher that is a child of the proxy, in the same container.

The launcher (`proxy/launcher`) runs with the upstream's interpreter where there is one, else with
ours, and hears us through one end of a socket pair. That connection is also the watch: when either
side dies, however it dies, the other sees its end at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.launched import leftovers
from proxy.activation.launched.messages import command_fields, start_fields, without
from proxy.activation.launched.own.interpreter import interpreters
from proxy.activation.launched.own.process import LauncherProcess
from proxy.activation.launched.preloading import preload_message
from proxy.activation.launched.runs import Runs
from proxy.activation.readiness.vacancy import ensure_vacant, vacate
from proxy.activation.starter import Exit, Started
from proxy.activation.tasks import cancel, failed
from proxy.errors import LauncherError
from proxy.lifecycle.plan import PROXY_OWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from pathlib import Path

    from proxy.activation.launched.link import Launcher
    from proxy.activation.starter import Found
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings

logger = logging.getLogger(__name__)

# Seconds over the grace for a stop to be answered: twice 5 s for the killed to go, then the files.
_STOP_MARGIN: Final = 20.0
_NOTHING_PRELOADED: Final = "nothing is preloaded"


class SpawnStarter:
    """The `Starter` for `upstream.activation: spawn`.

    `on_output(stream, line, more)` gets every line of the upstream's, unmasked, a very long one in
    pieces (`more` is true for all but the last); `on_warming(done, total)`
    the progress of a preload. `environ` is the proxy's environment, which the launcher and the
    upstream inherit without the proxy's own variables. `sweep(keep)` ends the processes that a lost
    launcher has left to the proxy, all but those of `keep`.
    """

    def __init__(
        self,
        upstream: UpstreamSettings,
        *,
        on_output: Callable[[str, str, bool], None],
        environ: Mapping[str, str],
        on_warming: Callable[[int, int], None] | None = None,
        sweep: Callable[[Collection[int]], Awaitable[object]] | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._upstream = upstream
        self._on_output = on_output
        self._on_warming = on_warming
        self._sweep = sweep
        self._plan: Plan | None = None
        self._standing: frozenset[Path] = frozenset()
        self._records: asyncio.Future[tuple[dict[str, Any] | None, str]] | None = None
        self._on_recording: Callable[[str], None] | None = None
        self._environ = without(environ, PROXY_OWN)
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._launcher: Launcher | None = None
        self._runs = Runs()
        self.found: Found | None = None
        self.lost: asyncio.Future[str] = loop.create_future()
        self.warmed: asyncio.Future[str | None] = loop.create_future()

    def __repr__(self) -> str:
        pid = self._launcher.pid if self._launcher is not None else None
        return f"<SpawnStarter launcher={pid} running={list(self._runs)}>"

    def owned_pids(self) -> frozenset[int]:
        """Children of the proxy that are waited for here and nowhere else."""
        launcher = self._launcher
        if launcher is None or launcher.reaped:
            return frozenset()
        return frozenset({launcher.pid})

    async def open(self) -> None:
        """Start the launcher and tell it what to prepare. Raises `LauncherError`."""
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

    async def start(self, plan: Plan) -> Started:
        """Write the plan's files and start the upstream. Raises `ActivationError`, all undone.

        A cancelled start may yet succeed; `stop` ends what it began.
        """
        await self.open()
        if self._upstream.preload.modules == "auto":
            await vacate(self._upstream.url, self._end_recording)
        await ensure_vacant(self._upstream.url)
        self._runs.begin()
        self._plan, self._standing = plan, leftovers.standing(plan)
        answer = await self._call("start", **self._start_fields(plan))
        pid = answer["pid"]
        return Started(pid=pid, kind=answer["kind"], why=answer["why"], exited=self._exited(pid))

    async def _end_recording(self) -> None:
        """A launcher that has been replaced records anew, with an upstream at the same address."""
        await self._call("hasten")
        await self._call("stop", grace=0)  # sweeps what the recording has started

    async def hasten(self) -> None:
        """Somebody waits for `warmed`: what takes longer than a cold start is given up."""
        if not self.warmed.done():
            with contextlib.suppress(LauncherError):
                await self._call("hasten")

    async def record(self, terms: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """A preload plan for the upstream, instead of everything else. Raises `LauncherError`.

        `terms` are `preloading.recording_terms`; `say` is told of the progress.
        """
        self._records = asyncio.get_running_loop().create_future()
        self._on_recording = say
        await self.open()
        await self._call("record", **command_fields(self._upstream), preload=terms)
        ends: list[asyncio.Future[Any]] = [self._records, self.lost]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if not self._records.done():
            raise LauncherError("cannot record: the launcher is gone")
        plan, why = self._records.result()
        if plan is None:
            raise LauncherError(why)
        return plan

    async def stop(self) -> None:
        """TERM, `stop_grace`, KILL, stragglers, undo the files. Raises `LauncherError`."""
        await self._stop(self._upstream.stop_grace)

    async def kill(self) -> None:
        """As `stop`, without grace; shortens a stop that is under way."""
        await self._stop(0)

    async def close(self) -> None:
        """Stop, and end the launcher. What goes wrong is logged."""
        await cancel(self._opening)
        try:
            await self.stop()
        except LauncherError as error:
            logger.error("cannot stop the upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        await cancel(self._watching)
        if self._launcher is not None:
            await self._launcher.end()
            self._launcher = None

    def _start_fields(self, plan: Plan) -> dict[str, Any]:
        return start_fields(plan)

    # The launcher's life

    async def _open(self) -> None:
        launcher = self._launcher = await self._launch()
        self._watching = asyncio.create_task(self._watch(launcher), name="watch launcher")
        upstream = self._upstream
        preload = preload_message(upstream) if self._records is None else None
        fields = command_fields(upstream)
        try:
            await self._call("prepare", **fields, grace=upstream.stop_grace, preload=preload)
        except LauncherError:
            await launcher.end()  # so that the next try finds none
            raise
        if preload is None:
            self._warm(_NOTHING_PRELOADED)

    async def _launch(self) -> Launcher:
        error: Exception | None = None
        for executable in interpreters(self._upstream, self._environ):
            try:
                launcher = LauncherProcess(executable, self._environ, self._event)
                self._launcher = launcher
                hello = await launcher.connect()
            except (LauncherError, OSError) as failure:
                error = failure
                logger.warning(
                    "cannot run the launcher",
                    extra={"interpreter": executable, "error": str(failure)},
                )
                await self._discard()
            except asyncio.CancelledError:
                await self._discard()
                raise
            else:
                logger.info(
                    "launcher started",
                    extra={"launcher": hello["pid"], "interpreter": executable}
                    | {"python": hello["python"]},
                )
                return launcher
        raise LauncherError(f"cannot start the launcher: {error}")

    async def _discard(self) -> None:
        if self._launcher is not None:
            await self._launcher.end()
            self._launcher = None

    async def _watch(self, launcher: Launcher) -> None:
        """See the launcher's end, and let nothing of its upstream outlive it."""
        await asyncio.shield(launcher.link.closed)
        # The kernel has killed the leader (PDEATHSIG). Its group keeps its number while it lives.
        for pid in self._runs:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        how = await launcher.wait()
        if self._sweep is not None:
            await self._sweep(self.owned_pids())
        if self._plan is not None:
            leftovers.undo(self._plan, self._standing)  # a dead launcher cannot
        # The next start finds a new launcher: losing one costs a restart, not the pod.
        self._launcher = self._opening = None
        self._lose(f"the launcher {how}")

    def _lose(self, reason: str) -> None:
        logger.error("launcher lost", extra={"reason": reason})
        exit_ = Exit(code=128 + signal.SIGKILL, reason=f"was killed because {reason}")
        self._runs.lose(exit_)
        self._warm(reason)
        if not self.lost.done():
            self.lost.set_result(reason)

    # What is said

    async def _call(self, op: str, **fields: Any) -> dict[str, Any]:
        if self._launcher is None:
            raise LauncherError(f"cannot {op}: there is no launcher")
        return await self._launcher.link.call(op, **fields)

    async def _stop(self, grace: float) -> None:
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
            self._plan = None  # what stands at its paths from here on is not ours
        except TimeoutError:
            await launcher.end()
            raise LauncherError("cannot stop: the launcher did not answer") from None

    def _event(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "output":
                self._on_output(message["stream"], message["line"], message.get("more", False))
            case "exit":
                self._runs.ended(message)
            case "warming" if self._on_warming is not None:
                self._on_warming(message["done"], message["total"])
            case "warm":
                logger.info(
                    "fork server is warm",
                    extra={name: message[name] for name in ("modules", "seconds", "notes")},
                )
                self._warm(None)
            case "cold":
                logger.error("starts will be cold", extra={"reason": message["why"]})
                self._warm(message["why"])
            case "recording" if self._on_recording is not None:
                self._on_recording(message["text"])
            case "recording":
                logger.info("recording", extra={"step": message["text"]})
            case "recorded" if self._records is not None and not self._records.done():
                self._records.set_result((message["plan"], message["why"]))

    def _exited(self, pid: int) -> asyncio.Future[Exit]:
        return self._runs.exited(pid)

    def _warm(self, why_not: str | None) -> None:
        if not self.warmed.done():
            self.warmed.set_result(why_not)
