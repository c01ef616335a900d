"""The life cycle: one table, and the only place that changes the state.

Everything that affects the state lives in this file. `TRANSITIONS` says which event is legal in
which state and where it leads; a pair that is not there is an error of the caller's, except
`DRAIN`, which is legal everywhere. The diagram in the README is drawn from the table.

Two states have no name of their own on the wire. *Warming* (the fork server is still importing)
reports `dormant`, because an orchestrator may claim the pod already. *Draining* (shutting down)
reports what it was when the shutdown began.
"""

from __future__ import annotations

import enum
import logging
import time
from typing import TYPE_CHECKING, Final, Literal

from proxy.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

logger = logging.getLogger(__name__)

Reported = Literal["dormant", "initializing", "ready"]


class State(enum.Enum):
    WARMING = "warming"
    DORMANT = "dormant"
    INITIALIZING = "initializing"
    READY = "ready"
    DRAINING = "draining"


class Event(enum.Enum):
    WARMED = "the fork server is warm, or was given up"
    COOLED = "what was warm is gone"
    INIT_ACCEPTED = "POST /api/init accepted"
    UPSTREAM_READY = "readiness probe passed"
    INIT_FAILED = "failed, everything undone"
    UPSTREAM_DIED = "the upstream died"
    RETRIED = "a restart failed, another follows"
    ADOPTED = "a running upstream was found"
    DRAIN = "a stop signal"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.WARMING: {
        Event.WARMED: State.DORMANT,
        Event.ADOPTED: State.READY,
        Event.DRAIN: State.DRAINING,
    },
    State.DORMANT: {
        Event.COOLED: State.WARMING,
        Event.INIT_ACCEPTED: State.INITIALIZING,
        Event.ADOPTED: State.READY,
        Event.DRAIN: State.DRAINING,
    },
    State.INITIALIZING: {
        Event.UPSTREAM_READY: State.READY,
        Event.INIT_FAILED: State.DORMANT,
        Event.RETRIED: State.INITIALIZING,
        Event.DRAIN: State.DRAINING,
    },
    State.READY: {
        Event.UPSTREAM_DIED: State.INITIALIZING,
        Event.DRAIN: State.DRAINING,
    },
    State.DRAINING: {
        Event.DRAIN: State.DRAINING,
    },
}

_REPORTED: Final[dict[State, Reported]] = {
    State.WARMING: "dormant",
    State.DORMANT: "dormant",
    State.INITIALIZING: "initializing",
    State.READY: "ready",
}


class Lifecycle:
    """The state, the last error, and how often and since when.

    `generation` grows with every change, so that a late result can tell that it is late. Every
    change is logged, with how long the state before it has lasted and with what `facts` tells.
    """

    def __init__(
        self,
        state: State = State.DORMANT,
        facts: Callable[[], Mapping[str, object]] = dict[str, object],
    ) -> None:
        self._state = state
        self._facts = facts
        self._entered = time.monotonic()
        self._reported: Reported = _REPORTED[state]
        self._cause: Event | None = None
        self.error: str | None = None
        self.generation = 0
        self.since = time.time()
        self._listeners: list[Callable[[State, Event], None]] = []

    @property
    def state(self) -> State:
        return self._state

    @property
    def reported(self) -> Reported:
        """What `GET /api/init` calls the state."""
        return self._reported

    @property
    def restarting(self) -> bool:
        """Whether what is initializing was ready before."""
        first = self._cause is Event.INIT_ACCEPTED
        return self._state is State.INITIALIZING and not first

    def apply(self, event: Event, error: str | None = None) -> State:
        """Make the transition for `event`; `error` is what `GET /api/init` reports from then on.

        A drain keeps the error there was: it is what the orchestrator asks for last.

        Raises `StateError` when the table has no such transition; nothing has changed then.
        """
        try:
            target = TRANSITIONS[self._state][event]
        except KeyError:
            raise StateError(
                f"cannot apply {event.name}: the state is {self._state.value}"
            ) from None
        before, self._state, self._cause = self._state, target, event
        self._reported = _REPORTED.get(target, self._reported)
        if event is not Event.DRAIN:
            self.error = error
        self.generation += 1
        self.since = time.time()
        entered, self._entered = self._entered, time.monotonic()
        facts: dict[str, object] = {
            "before": before.value,
            "state": target.value,
            "cause": event.name,
            "lasted": round(self._entered - entered, 4),
        }
        logger.info("state changed", extra={**self._facts(), **facts})
        for listener in self._listeners:
            try:
                listener(target, event)
            except Exception:
                # The state has changed: whoever made it so, and who hears of it next, go on.
                logger.exception("a listener of the life cycle failed")
        return target

    def subscribe(self, listener: Callable[[State, Event], None]) -> None:
        """Call `listener(state, event)` after every change, in the order of subscription."""
        self._listeners.append(listener)

    def __repr__(self) -> str:
        return f"<Lifecycle {self._state.value} generation={self.generation} error={self.error!r}>"


def diagram() -> str:
    """The table as a Mermaid state diagram, for the README."""
    lines = ["stateDiagram-v2"]
    for state, row in TRANSITIONS.items():
        lines += [
            f"    {state.value} --> {target.value}: {event.value}"
            for event, target in row.items()
            if event is not Event.DRAIN
        ]
    drained = [state.value for state in TRANSITIONS if state is not State.DRAINING]
    lines += [f"    {name} --> draining: {Event.DRAIN.value}" for name in drained]
    return "\n".join(lines) + "\n"
