"""Activation as a transaction: from an accepted init request to ready, or everything undone.

One activation at a time. It has one deadline, and whichever way it fails (the upstream dies, the
deadline passes, the proxy shuts down, our own mistake) the same undo runs before the state is
dormant again, so that a retry starts clean. After ready the same object watches the upstream and
carries out `on_exit`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Literal

from proxy.activation.attempt import Attempts
from proxy.activation.backoff import Backoff
from proxy.activation.tasks import seen
from proxy.errors import ActivationError, ActivationTimeoutError, DrainingError, StateError
from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.attempt import Ready
    from proxy.activation.progress import Progress
    from proxy.activation.starter import Exit, Found, Started, Starter
    from proxy.lifecycle.plan import Plan
    from proxy.lifecycle.state import Lifecycle

logger = logging.getLogger(__name__)

OnExit = Literal["restart", "exit", "dormant"]


class Activator:
    """Brings the upstream up and keeps it up, by the life cycle's table.

    `on_plan` is told each plan before anything of it is used (it arms the log's masking);
    `mask` makes the upstream's own words fit to be shown; `on_fatal` ends the proxy with an exit
    code; `on_phase` hears of each phase that begins. `timeout` is the deadline in seconds of a
    whole activation.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        starter: Starter,
        probe: Ready,
        timeout: float,
        on_exit: OnExit,
        on_plan: Callable[[Plan], None],
        mask: Callable[[str], str],
        on_fatal: Callable[[int], None],
        on_phase: Callable[[], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._starter = starter
        self._timeout = timeout
        self._on_exit = on_exit
        self._on_plan = on_plan
        self._on_fatal = on_fatal
        self._task: asyncio.Task[None] | None = None
        # Done when an upstream was found running: an init that came before is too late.
        self._taken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._backoff = Backoff()
        self._attempts = Attempts(
            starter=starter, probe=probe, timeout=timeout, mask=mask, on_phase=on_phase
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
        await self._follow(asyncio.create_task(self._activation(plan), name="activation"))

    async def join(self) -> None:
        """Wait for whatever is under way; returns when ready, raises as `activate` does."""
        while self._task is not None and not self._task.done():
            await self._follow(self._task)
        if self._lifecycle.state is State.DRAINING:
            raise DrainingError("shutting down")
        if self._lifecycle.state is not State.READY:
            raise ActivationError(self._lifecycle.error or "the server is not ready")

    async def run(self, plan: Plan) -> None:
        """Start the upstream without being asked (`deferred_init: false`).

        A failure is followed by restarts or the end of the proxy, as `on_exit` says.
        """
        self.admit()
        await self._follow(asyncio.create_task(self._unasked(plan), name="start"))

    async def adopt(self, found: Found) -> None:
        """Take over an upstream that was found running, once it passes the probe.

        An init that waits for the warming to end is refused: the server is somebody's. When the
        upstream does not pass within the deadline it is ended, and the state is dormant.
        """
        self._taken.set_result(None)
        self._taken = asyncio.get_running_loop().create_future()
        await self._follow(asyncio.create_task(self._adoption(found), name="adoption"))

    async def _follow(self, task: asyncio.Task[None]) -> None:
        self._task = task
        task.add_done_callback(seen)  # its failure is logged, if nobody follows it to the end
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

    def _due(self) -> float:
        """When an activation that begins at this moment must be over, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout

    async def _activation(self, plan: Plan) -> None:
        due = self._due()  # of the whole, however much of it warming takes
        await self._accept(plan, due)
        try:
            await self._attempt(plan, due)
        except ActivationError as error:
            await self._give_up(str(error))
            raise

    async def _unasked(self, plan: Plan) -> None:
        due = self._due()
        await self._accept(plan, due)
        try:
            await self._attempt(plan, due)
        except ActivationError as error:
            if self._on_exit == "restart":
                logger.error("start failed", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
                await self._restart(plan, str(error))
                return
            logger.critical("cannot start the upstream", extra={"error": str(error)})
            await self._attempts.undo()
            end = self.progress.last_exit
            self._on_fatal(end.code if end is not None and end.code else 1)

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
            self._apply(Event.WARMED)  # known here a moment before its own callback runs
        self._on_plan(plan)
        self._attempts.forget()
        self._backoff.reset()
        self._apply(Event.INIT_ACCEPTED)

    def _apply(self, event: Event, error: str | None = None) -> None:
        """Make a transition; when a shutdown was faster, end as the cancelled task it will be."""
        if self._lifecycle.state is State.DRAINING:
            raise asyncio.CancelledError
        self._lifecycle.apply(event, error)

    async def _attempt(self, plan: Plan, due: float) -> None:
        """Start and probe until `due`, then be ready. Raises `ActivationError`."""
        started = await self._attempts.make(plan, due)
        self._apply(Event.UPSTREAM_READY)
        self._watch(plan, started)

    async def _give_up(self, error: str) -> None:
        logger.error("activation failed", extra={"error": error})
        await self._attempts.undo()
        if self._lifecycle.state is State.INITIALIZING:  # not when a drain came meanwhile
            self._lifecycle.apply(Event.INIT_FAILED, error)

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
        self._watch(found.plan, found.started)

    # After ready

    def _watch(self, plan: Plan | None, started: Started) -> None:
        begun = time.monotonic()

        def died(exited: asyncio.Future[Exit]) -> None:
            # Late or expected ends (a drain, an undo, a successor) are nobody's news.
            if self.progress.started is not started or self._lifecycle.state is not State.READY:
                return
            lived = time.monotonic() - begun
            end = exited.result()
            error = self._attempts.with_tail(f"the upstream {end.reason}")
            logger.error("the upstream died", extra={"error": error, "lived": round(lived, 3)})
            # Here, not in the task: the gate closes before another byte is relayed.
            self._lifecycle.apply(Event.UPSTREAM_DIED, error)
            self._backoff.lived(lived)
            self._task = asyncio.create_task(self._after_death(plan, end, error), name="on_exit")

        started.exited.add_done_callback(died)

    async def _after_death(self, plan: Plan | None, end: Exit, error: str) -> None:
        # An upstream that was taken over without its plan cannot be started again.
        if self._on_exit == "dormant" or (plan is None and self._on_exit == "restart"):
            await self._give_up(error)
        elif self._on_exit == "exit":
            await self._attempts.undo()
            self._on_fatal(end.code)
        elif plan is not None:
            await self._restart(plan, error)

    async def _restart(self, plan: Plan, error: str) -> None:
        """Start the same plan again until it is ready; each failure waits longer."""
        while True:
            try:
                # Counted from the end of the one before: the undo takes its time as well.
                due = time.monotonic() + self._backoff.next()
                # Whatever the dead upstream left running must not meet its successor.
                await self._attempts.undo()
                self._apply(Event.RETRIED, error)
                self.progress.enter("backoff")
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.progress.restarts += 1
                await self._attempt(plan, self._due())
            except ActivationError as failed:
                error = str(failed)
                logger.error("restart failed", extra={"error": error})  # noqa: TRY400  the error's own text is the report
            else:
                return

    def __repr__(self) -> str:
        return f"<Activator {self._lifecycle.reported} {self.progress!r}>"
