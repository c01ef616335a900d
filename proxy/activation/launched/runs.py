"""The upstreams that a launcher has started: with what, and how each has ended."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from proxy.activation.starter import Exit
from proxy.launcher.errors import LaunchError
from proxy.launcher.upstream.files import Files

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)


class Runs:
    """By pid. The launcher's word of an end may come before its answer to the start is acted on."""

    def __init__(self) -> None:
        self._running: dict[int, asyncio.Future[Exit]] = {}
        self._ended_early: dict[int, Exit] = {}
        self._plan: Plan | None = None

    def __iter__(self) -> Iterator[int]:
        return iter(self._running)

    @property
    def idle(self) -> bool:
        """Whether nothing was started that was not stopped, or lost, since."""
        return self._plan is None and not self._running

    def begin(self, plan: Plan) -> None:
        """A start is about to be asked for: pids that ended before it are other processes'."""
        self._ended_early.clear()
        self._plan = plan

    def undone(self) -> None:
        """What stands at the plan's paths from here on is not ours."""
        self._plan = None

    def undo(self) -> None:
        """Take away the files of a start that was not undone, in the place of its launcher.

        By the note that it has left in the run directory.
        """
        if self._plan is None or not self._plan.run_dir:
            return
        try:
            Files(say=logger.warning).recover(self._plan.run_dir, self._plan.cwd)
        except LaunchError as error:
            logger.error("cannot undo what the launcher did", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen

    def exited(self, pid: int) -> asyncio.Future[Exit]:
        """What will tell how the upstream `pid`, just started, ends."""
        exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        early = self._ended_early.pop(pid, None)
        if early is None:
            self._running[pid] = exited
        else:
            exited.set_result(early)
        return exited

    def ended(self, message: dict[str, Any]) -> None:
        """The launcher says that one has ended."""
        pid = message["pid"]
        exit_ = Exit(code=message["code"], reason=message["reason"], tail=message["tail"])
        exited = self._running.pop(pid, None)
        if exited is None:
            self._ended_early[pid] = exit_
        elif not exited.done():
            exited.set_result(exit_)

    def lose(self, exit_: Exit) -> None:
        """All have ended with their launcher."""
        self._plan = None
        for exited in self._running.values():
            if not exited.done():
                exited.set_result(exit_)
        self._running.clear()
