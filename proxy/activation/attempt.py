"""One attempt: the upstream started and probed under a deadline, or taken down again."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Final, Protocol

from proxy.activation.progress import Progress
from proxy.errors import ActivationError, ActivationTimeoutError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.starter import Exit, Started, Starter
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)

# Of an activation's time, at most this part is kept for the stop.
_KEPT_PART: Final = 1 / 10


class Ready(Protocol):
    """What an attempt needs of the readiness probe."""

    last_failure: str | None

    async def wait(self, exited: asyncio.Future[Exit]) -> None: ...


class Attempts:
    """Attempts, one after the other, and what they tell of themselves (`progress`).

    `timeout` is what an activation has in seconds. A part of it, at most `stop_grace`, is kept for
    the stop of what does not become ready. `mask` makes the upstream's own words fit to be shown;
    `on_phase` hears of each phase that begins.
    """

    def __init__(
        self,
        *,
        starter: Starter,
        probe: Ready,
        timeout: float,
        stop_grace: float,
        mask: Callable[[str], str],
        on_phase: Callable[[], None],
    ) -> None:
        self._starter = starter
        self._probe = probe
        self._timeout = timeout
        self._kept = min(stop_grace, timeout * _KEPT_PART)
        self._mask = mask
        self.progress = Progress(on_phase)

    def forget(self) -> None:
        """Begin to count anew for another user, except the attempts."""
        self.progress = Progress(self.progress.on_phase, attempt=self.progress.attempt)

    async def make(self, plan: Plan, due: float) -> Started:
        """Start the upstream and await its readiness. Raises `ActivationError`.

        `due` is the deadline by the loop's clock, of the stop as well. Only when time was up is it
        down again then.
        """
        self.progress.attempt += 1
        begun = time.monotonic()
        try:
            async with asyncio.timeout_at(due - self._kept):
                started = await self._bring_up(plan)
        except TimeoutError:
            why = self._probe.last_failure or "the upstream was not started"
            late = f"not ready within init.timeout ({self._timeout:g} s, the stop included): {why}"
            await self.undo(due)  # its last words come with its end
            raise ActivationTimeoutError(self.with_tail(late)) from None
        except ActivationError as error:
            raise type(error)(self.with_tail(str(error))) from error
        except Exception as error:
            # A mistake of ours must not leave the state behind at initializing.
            logger.exception("activation failed unexpectedly")
            raise ActivationError(f"internal error: {type(error).__name__}") from error
        self.progress.timings["total"] = round(time.monotonic() - begun, 4)
        return started

    async def take_over(self, started: Started) -> None:
        """Await the readiness of an upstream that runs already. Raises `ActivationError`."""
        self.progress.started = started
        started.exited.add_done_callback(self._note_exit)
        try:
            async with asyncio.timeout(self._timeout):
                await self._probe.wait(started.exited)
        except TimeoutError:
            raise ActivationTimeoutError(self._probe.last_failure or "it does not answer") from None

    def with_tail(self, message: str) -> str:
        """`message` with the upstream's last words, masked."""
        return self.progress.with_last_words(message, self._mask)

    async def undo(self, due: float | None = None) -> None:
        """Take down whatever is up, at `due` without grace. What goes wrong is logged."""
        self.progress.enter("undo")
        try:
            # Shielded: a shutdown during the undo must not leave half of it behind.
            await asyncio.shield(asyncio.create_task(self._stop(due), name="undo"))
        finally:
            self.progress.phase = None
            self.progress.started = None

    async def _bring_up(self, plan: Plan) -> Started:
        self._probe.last_failure = None
        self.progress.started = self.progress.last_exit = None
        with self.progress.timed("start"):
            started = await self._starter.start(plan)
        self.progress.started = started
        started.exited.add_done_callback(self._note_exit)
        with self.progress.timed("probe"):
            await self._probe.wait(started.exited)
        if started.exited.done():  # in the moment in which the probe passed
            raise ActivationError(f"the upstream {started.exited.result().reason}")
        return started

    def _note_exit(self, exited: asyncio.Future[Exit]) -> None:
        if not exited.cancelled():
            self.progress.last_exit = exited.result()

    async def _stop(self, due: float | None) -> None:
        stopping = asyncio.create_task(self._starter.stop(), name="stop")
        try:
            if due is not None:
                left = due - asyncio.get_running_loop().time()
                await asyncio.wait({stopping}, timeout=max(0.0, left))
                if not stopping.done():
                    await self._starter.kill()
            await stopping
        except ActivationError as error:
            logger.error("cannot undo the activation completely", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        except Exception:
            # Nor may this leave the state behind at initializing.
            logger.exception("cannot undo the activation completely")
