"""What an activation tells of itself while it runs and after: phases, timings, restarts."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.activation.starter import Exit, Started

logger = logging.getLogger(__name__)

# How much of a refusal in the upstream's own words goes into `error`, and how much of its stderr:
# enough for the end of a traceback. Cut once they are masked: of half a value nothing is known.
_MESSAGE_CHARACTERS: Final = 1000
_TAIL_LINES: Final = 20
_TAIL_CHARACTERS: Final = 2000


@dataclass
class Progress:
    """What `GET /api/init?details=true` tells of the activation. Times in seconds.

    `on_phase` is called at the begin of each phase.
    """

    on_phase: Callable[[], None] = field(repr=False)
    phase: str | None = None
    attempt: int = 0
    restarts: int = 0
    timings: dict[str, float] = field(default_factory=dict)
    started: Started | None = None
    last_exit: Exit | None = None
    next_try: float | None = None  # since the epoch

    def enter(self, phase: str) -> None:
        self.phase = phase
        try:
            self.on_phase()
        except Exception:
            # Who is told of it has no say in it: an undo, above all, goes on.
            logger.exception("cannot tell of a phase")

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[phase] = round(time.monotonic() - begun, 4)
            self.phase = None

    async def back_off(self, seconds: float) -> None:
        """Let them pass before the next try."""
        self.next_try = time.time() + seconds
        self.enter("backoff")
        try:
            await asyncio.sleep(seconds)
        finally:
            self.next_try = self.phase = None

    @property
    def exit_code(self) -> int | None:
        """The last one of an upstream."""
        return self.last_exit.code if self.last_exit is not None else None

    def with_last_words(self, message: str, mask: Callable[[str], str]) -> str:
        """`message`, and the last lines of stderr if the upstream has ended; both masked."""
        end = self.last_exit
        said = mask(message)
        if len(said) > _MESSAGE_CHARACTERS:
            said = said[:_MESSAGE_CHARACTERS] + "…"
        if end is None or not end.tail.strip():
            return said
        lines = mask(end.tail).rstrip().splitlines()[-_TAIL_LINES:]
        return f"{said}; stderr ends: " + "\n".join(lines)[-_TAIL_CHARACTERS:]

    def details(self) -> dict[str, Any]:
        """The fields of `contract.InitDetails` that the activation knows; never an env value."""
        started = self.started
        return {
            "phase": self.phase,
            "attempt": self.attempt,
            "timings": dict(self.timings),
            "start": {"kind": started.kind, "why": started.why} if started else None,
            "pid": (started.pid or None) if started and not started.exited.done() else None,
            "restarts": self.restarts,
            "next_try": self.next_try,
        }
