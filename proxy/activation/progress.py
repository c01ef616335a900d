"""What an activation tells of itself while it runs and after: phases, timings, restarts."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from proxy.activation.starter import Exit, Started


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

    def enter(self, phase: str) -> None:
        self.phase = phase
        self.on_phase()

    @contextlib.contextmanager
    def timed(self, phase: str) -> Iterator[None]:
        self.enter(phase)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.timings[phase] = round(time.monotonic() - begun, 4)
            self.phase = None

    def details(self) -> dict[str, Any]:
        """The fields of `contract.InitDetails` that the activation knows; never an env value."""
        started = self.started
        return {
            "phase": self.phase,
            "attempt": self.attempt,
            "timings": dict(self.timings),
            "start": {"kind": started.kind, "why": started.why} if started else None,
            "pid": started.pid if started and not started.exited.done() else None,
            "restarts": self.restarts,
        }
