"""Activation as a transaction: from an accepted init request to ready, or everything undone.

One activation at a time. It has one deadline, and whichever way it fails (the upstream dies, the
deadline passes, the proxy shuts down, our own mistake) the same undo runs before the state is
dormant again, so that a retry starts clean. What becomes of an upstream that was brought up is
`upkeep`'s affair.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

from proxy.activation.attempt import Attempts
from proxy.activation.tasks import seen
from proxy.activation.upkeep import Upkeep
from proxy.errors import (
    ActivationError,
    ActivationTimeoutError,
    DrainingError,
    ProxyError,
    StateError,
)
from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.attempt import Ready
    from proxy.activation.progress import Progress
    from proxy.activation.readiness.pulse import Pulse
    from proxy.activation.starter import Found, Starter
    from proxy.activation.upkeep import OnExit, Work
    from proxy.lifecycle.plan import Plan
    from proxy.lifecycle.state import Lifecycle
    from proxy.settings import RestartSettings

logger = logging.getLogger(__name__)


class Activator:
    """Brings the upstream up and keeps it up, by the life cycle's table.

    `on_plan` is told each plan before anything of it is used (it arms the log's masking);
    `mask` makes the upstream's own words fit to be shown; `on_fatal` ends the proxy with an exit
    code; `on_phase` hears of each phase that begins. `timeout` is the deadline in seconds of a
    whole activation, including the stop of what does not become ready: a part of it, at most
    `stop_grace`, is kept for that.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        starter: Starter,
        probe: Ready,
        timeout: float,
        stop_grace: float,
        on_exit: OnExit,
        restarts: RestartSettings,
        pulse: Pulse | None = None,
        on_plan: Callable[[Plan], None],
        mask: Callable[[str], str],
        on_fatal: Callable[[int], None],
        on_phase: Callable[[], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._starter = starter
        self._timeout = timeout
        self._on_plan = on_plan
        self._task: asyncio.Task[None] | None = None
        # Done when an upstream was found running: an init that came before is too late.
        self._taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._attempts = Attempts(
            starter=starter,
            probe=probe,
            timeout=timeout,
            stop_grace=stop_grace,
            mask=mask,
            on_phase=on_phase,
        )
        self._upkeep = Upkeep(
            lifecycle=lifecycle,
            attempts=self._attempts,
            timeout=timeout,
            on_exit=on_exit,
            restarts=restarts,
            pulse=pulse,
            begin=self._begin,
            on_fatal=on_fatal,
        )

    @property
    def progress(self) -> Progress:
        """What the activation tells of itself."""
        return self._attempts.progress

    @property
    def alive(self) -> bool:
        """Whether an upstream is running."""
        started = self.progress.started
        return started is not None and not started.exited.done()

    @property
    def unready(self) -> str | None:
        """What an init that came now would have to wait for, or None."""
        return self._starter.unready

    def admit(self) -> None:
        """Raise unless an init request would be accepted now: `StateError`, `DrainingError`."""
        state = self._lifecycle.state
        if state is State.DRAINING:
            raise DrainingError("shutting down")
        if state not in {State.DORMANT, State.WARMING} or self._busy:
            raise StateError(f"server already in state: {self._described}")

    @property
    def _busy(self) -> bool:
        return self._task is not None and not self._task.done()

    @property
    def _described(self) -> str:
        # Accepted, not begun (maybe still warming): others are refused as they will be in a moment.
        waiting = self._lifecycle.state in {State.WARMING, State.DORMANT}
        return "initializing" if waiting else self._lifecycle.reported

    async def activate(self, plan: Plan) -> None:
        """Run a whole activation; returns when ready.

        The caller being cancelled does not cancel it. Raises `StateError` (nothing changed),
        `DrainingError`, `ActivationError`, `ActivationTimeoutError` (everything undone).
        """
        self.admit()
        await self._follow(self._begin(lambda: self._activation(plan), "activation"))

    async def join(self) -> None:
        """Wait for whatever is under way; returns when ready, raises as `activate` does."""
        try:
            async with asyncio.timeout_at(self._upkeep.due()):
                while self._task is not None and not self._task.done():
                    await self._follow(self._task)
        except TimeoutError:
            why = self._lifecycle.error or "it is still under way"
            late = f"not ready within init.timeout ({self._timeout:g} s): {why}"
            raise ActivationTimeoutError(late) from None
        if self._lifecycle.state is State.DRAINING:
            raise DrainingError("shutting down")
        if self._lifecycle.state is not State.READY:
            raise ActivationError(self._lifecycle.error or "the server is not ready")

    async def run(self, plan: Plan) -> None:
        """Start the upstream without being asked (`deferred_init: false`).

        A failure is followed by restarts or the end of the proxy, as `on_exit` says.
        """
        self.admit()
        await self._follow(self._begin(lambda: self._unasked(plan), "start"))

    async def adopt(self, found: Found) -> None:
        """Take over an upstream that was found running, once it passes the probe.

        An init that waits for the warming to end is refused: the server is somebody's. When the
        upstream does not pass within the deadline it is ended, and the state is dormant.
        """
        self._taken.set_result(None)
        self._taken = asyncio.get_running_loop().create_future()
        await self._follow(self._begin(lambda: self._adoption(found), "adoption"))

    def _begin(self, work: Work, name: str) -> asyncio.Task[None]:
        """Whatever is under way, one at a time."""
        self._task = task = asyncio.create_task(self._whole(work), name=name)
        task.add_done_callback(seen)  # its failure is logged, if nobody follows it to the end
        return task

    async def _whole(self, work: Work) -> None:
        """A mistake of ours ends as any failure does: everything undone, and dormant."""
        try:
            await work()
        except ProxyError:
            raise
        except Exception as error:
            logger.exception("failed unexpectedly")
            failure = ActivationError(f"internal error: {type(error).__name__}")
            await self._upkeep.give_up(str(failure))
            raise failure from error

    async def _follow(self, task: asyncio.Task[None]) -> None:
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():  # by a shutdown, not this caller by somebody else
                raise DrainingError("shutting down; the activation was undone") from None
            raise

    async def interrupt(self) -> None:
        """Cancel a running activation or restart and undo it. Does nothing to a ready upstream."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            # Its failure is reported to whoever follows it; here only its end matters.
            await asyncio.wait({self._task})
            await self._attempts.undo()

    async def shutdown(self) -> None:
        """Interrupt what is running and stop the upstream. Idempotent."""
        await self.interrupt()
        await self._attempts.undo()

    # One activation

    async def _activation(self, plan: Plan) -> None:
        due = self._upkeep.due()  # of the whole, however much of it warming takes
        await self._accept(plan, due)
        try:
            await self._upkeep.bring_up(plan, due)
        except ActivationError as error:
            await self._upkeep.give_up(str(error), due)
            raise

    async def _unasked(self, plan: Plan) -> None:
        due = self._upkeep.due()
        await self._accept(plan, due)
        try:
            await self._upkeep.bring_up(plan, due)
        except ActivationError as error:
            await self._upkeep.failed_unasked(plan, str(error))

    async def _accept(self, plan: Plan, due: float) -> None:
        # Warming: accepted already (nobody else can be), begun when the fork server is warm.
        taken = self._taken
        first: list[asyncio.Future[Any]] = [taken, self._starter.warmed]
        try:
            async with asyncio.timeout_at(due):
                await self._starter.hasten()
                await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            await self._attempts.undo()  # whoever does not answer is ended by it
            late = f"not begun within init.timeout ({self._timeout:g} s): warming does not end"
            raise ActivationTimeoutError(late) from None
        if taken.done():  # nothing of this request may touch what serves another
            raise StateError("server already in state: ready")
        if self._lifecycle.state is State.WARMING:
            self._upkeep.apply(Event.WARMED)  # known here a moment before its own callback runs
        self._on_plan(plan)
        self._upkeep.forget()
        self._upkeep.apply(Event.INIT_ACCEPTED)

    async def _adoption(self, found: Found) -> None:
        if found.plan is not None:
            self._on_plan(found.plan)
        try:
            await self._attempts.take_over(found.started)
        except ActivationError as error:
            logger.error("cannot take over the running upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
            await self._attempts.undo()
            return
        self._lifecycle.apply(Event.ADOPTED)
        self._upkeep.watch(found.plan, found.started)

    def __repr__(self) -> str:
        return f"<Activator {self._lifecycle.reported} {self.progress!r}>"
