"""An upstream kept up: brought to ready, watched, and after its death what `on_exit` says."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Literal

from proxy.activation.backoff import Backoff
from proxy.errors import ActivationError
from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.attempt import Attempts
    from proxy.activation.readiness.pulse import Pulse
    from proxy.activation.starter import Exit, Started
    from proxy.lifecycle.plan import Plan
    from proxy.lifecycle.state import Lifecycle
    from proxy.settings import RestartSettings

    Work = Callable[[], Awaitable[None]]

logger = logging.getLogger(__name__)

OnExit = Literal["restart", "exit", "dormant"]


class Upkeep:
    """One upstream after the other, by the life cycle's table.

    `timeout` is what each has until it is ready, in seconds. `pulse` notices that one hangs.
    `begin(work, name)` runs what follows a death; `on_fatal` ends the proxy with an exit code.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        attempts: Attempts,
        timeout: float,
        on_exit: OnExit,
        restarts: RestartSettings,
        pulse: Pulse | None,
        begin: Callable[[Work, str], object],
        on_fatal: Callable[[int], None],
    ) -> None:
        self._lifecycle = lifecycle
        self._attempts = attempts
        self._timeout = timeout
        self._on_exit = on_exit
        self._restarts = restarts
        self._pulse = pulse
        self._begin = begin
        self._on_fatal = on_fatal
        self._backoff = Backoff(restarts.limit, restarts.within)

    def forget(self) -> None:
        """Begin to count anew, for another user."""
        self._attempts.forget()
        self._backoff.reset()

    def due(self) -> float:
        """When what begins at this moment must be over, by the loop's clock."""
        return asyncio.get_running_loop().time() + self._timeout

    def apply(self, event: Event, error: str | None = None) -> None:
        """Make a transition; when a shutdown was faster, end as the cancelled task it will be."""
        if self._lifecycle.state is State.DRAINING:
            raise asyncio.CancelledError
        self._lifecycle.apply(event, error)

    async def bring_up(self, plan: Plan, due: float) -> None:
        """Start and probe until `due`, then be ready. Raises `ActivationError`."""
        started = await self._attempts.make(plan, due)
        self.apply(Event.UPSTREAM_READY)
        self.watch(plan, started)

    async def give_up(self, error: str, due: float | None = None) -> None:
        """Undo everything, at `due` without grace, and be dormant."""
        logger.error("activation failed", extra={"error": error})
        await self._attempts.undo(due)
        if self._lifecycle.state is State.INITIALIZING:  # not when a drain came meanwhile
            self._lifecycle.apply(Event.INIT_FAILED, error)

    async def failed_unasked(self, plan: Plan, error: str) -> None:
        """What follows when an upstream that no init has asked for did not come up."""
        if self._on_exit == "restart":
            logger.error("start failed", extra={"error": error})
            self._backoff.died()
            await self._restart(plan, error)
        else:
            logger.critical("cannot start the upstream", extra={"error": error})
            await self._end()

    def watch(self, plan: Plan | None, started: Started) -> None:
        """See the end of an upstream that is ready; without a `plan` it has no successor."""
        begun = time.monotonic()

        def died(exited: asyncio.Future[Exit]) -> None:
            # Late or expected ends (a drain, an undo, a successor) are nobody's news.
            current = self._attempts.progress.started is started
            if not current or self._lifecycle.state is not State.READY:
                return
            lived = time.monotonic() - begun
            end = exited.result()
            hung = self._pulse.hung if self._pulse is not None else None
            how = end.reason if hung is None else f"hung and was killed: {hung}"
            error = self._attempts.with_tail(f"the upstream {how}")
            logger.error("the upstream died", extra={"error": error, "lived": round(lived, 3)})
            # Here, not in the task: the gate closes before another byte is relayed.
            self._lifecycle.apply(Event.UPSTREAM_DIED, error)
            self._backoff.died(lived)
            self._begin(lambda: self._after_death(plan, end, error), "on_exit")

        started.exited.add_done_callback(died)
        if self._pulse is not None:
            self._pulse.follow(started.exited)

    async def _after_death(self, plan: Plan | None, end: Exit, error: str) -> None:
        # An upstream that was taken over without its plan cannot be started again.
        if self._on_exit == "dormant" or (plan is None and self._on_exit == "restart"):
            await self.give_up(error)
        elif self._on_exit == "exit":
            await self._attempts.undo()
            self._on_fatal(end.code)
        elif plan is not None:
            await self._restart(plan, error)

    async def _restart(self, plan: Plan, error: str) -> None:
        """Start the same plan again until it is ready; each failure waits longer."""
        progress = self._attempts.progress
        while not self._backoff.spent:
            try:
                # Counted from the end of the one before: the undo takes its time as well.
                due = time.monotonic() + self._backoff.next()
                # Whatever the dead upstream left running must not meet its successor.
                await self._attempts.undo()
                self.apply(Event.RETRIED, error)
                await progress.back_off(max(0.0, due - time.monotonic()))
                progress.restarts += 1
                await self.bring_up(plan, self.due())
            except ActivationError as failed:
                error = str(failed)
                logger.error("restart failed", extra={"error": error})  # noqa: TRY400  the error's own text is the report
                self._backoff.died()
            else:
                return
        counted = {"deaths": self._restarts.limit, "within": self._restarts.within}
        logger.critical("given up: the upstream does not stay up", extra=counted | {"error": error})
        await self._end()

    async def _end(self) -> None:
        """End the proxy as the upstream has ended, but never with success."""
        end = self._attempts.progress.last_exit
        await self._attempts.undo()
        self._on_fatal(end.code if end is not None and end.code else 1)
