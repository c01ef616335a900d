"""Launchers that are children of the proxy.

One runs with the upstream's interpreter where there is one, else with ours, and hears us through
one end of a socket pair.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Any

from proxy.activation.launched.messages import without
from proxy.activation.launched.own.interpreter import interpreters
from proxy.activation.launched.own.process import LauncherProcess
from proxy.errors import LauncherError
from proxy.lifecycle.plan import PROXY_OWN

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.runs import Runs
    from proxy.settings import UpstreamSettings

logger = logging.getLogger(__name__)


class OwnPlace:
    """The `Place` for `upstream.activation: spawn`.

    `environ` is the proxy's environment, which the launcher and the upstream inherit without the
    proxy's own variables. `sweep(keep)` ends the processes that a lost launcher has left to the
    proxy, all but those of `keep`.
    """

    apart = False

    def __init__(
        self,
        upstream: UpstreamSettings,
        environ: Mapping[str, str],
        sweep: Callable[[Collection[int]], Awaitable[object]] | None = None,
    ) -> None:
        self._upstream = upstream
        self._environ = without(environ, PROXY_OWN)
        self._sweep = sweep
        self._launcher: LauncherProcess | None = None

    def owned_pids(self) -> frozenset[int]:
        """Children of the proxy that are waited for here and nowhere else."""
        launcher = self._launcher
        if launcher is None or launcher.reaped:
            return frozenset()
        return frozenset({launcher.pid})

    async def launch(self, on_event: Callable[[dict[str, Any]], None]) -> LauncherProcess:
        """With the first interpreter that can run one. Raises `LauncherError`."""
        error: Exception | None = None
        for executable in interpreters(self._upstream, self._environ):
            try:
                return await self._launched(executable, on_event)
            except (LauncherError, OSError) as failure:
                error = failure
                logger.warning(
                    "cannot run the launcher",
                    extra={"interpreter": executable, "error": str(failure)},
                )
        raise LauncherError(f"cannot start the launcher: {error}")

    async def _launched(
        self, executable: str, on_event: Callable[[dict[str, Any]], None]
    ) -> LauncherProcess:
        launcher = self._launcher = LauncherProcess(executable, self._environ, on_event)
        try:
            hello = await launcher.connect()
        except BaseException:
            await launcher.end()
            raise
        extra = {"launcher": hello["pid"], "interpreter": executable, "python": hello["python"]}
        logger.info("launcher started", extra=extra)
        return launcher

    async def bury(self, launcher: Launcher, runs: Runs) -> str:
        """Await its end; kill what is left of its upstream, and undo its files in its place."""
        await asyncio.shield(launcher.link.closed)
        # The kernel has killed the leader (PDEATHSIG). Its group keeps its number while it lives.
        for pid in runs:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
        how = await launcher.wait()
        if self._sweep is not None:
            await self._sweep(self.owned_pids())
        runs.undo()  # a dead launcher cannot
        return how
