from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from proxy.errors import StateError
from proxy.lifecycle.gate import CONTROL_PATHS, Verdict, decide
from proxy.lifecycle.state import TRANSITIONS, Event, Lifecycle, State, diagram

# How a life cycle is brought into each state, by legal events only.
ROADS: dict[State, tuple[Event, ...]] = {
    State.WARMING: (),
    State.DORMANT: (Event.WARMED,),
    State.INITIALIZING: (Event.WARMED, Event.INIT_ACCEPTED),
    State.READY: (Event.WARMED, Event.INIT_ACCEPTED, Event.UPSTREAM_READY),
    State.DRAINING: (Event.DRAIN,),
}


def lifecycle_in(state: State) -> Lifecycle:
    lifecycle = Lifecycle(State.WARMING)
    for event in ROADS[state]:
        lifecycle.apply(event)
    assert lifecycle.state is state
    return lifecycle


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_event_in_every_state_follows_the_table_or_changes_nothing(
    state: State, event: Event
) -> None:
    lifecycle = lifecycle_in(state)
    generation = lifecycle.generation
    if event in TRANSITIONS[state]:
        assert lifecycle.apply(event, "why") is TRANSITIONS[state][event]
        assert lifecycle.generation == generation + 1
        assert lifecycle.error == (None if event is Event.DRAIN else "why")
    else:
        with pytest.raises(StateError, match=f"{event.name}.*{state.value}"):
            lifecycle.apply(event, "why")
        assert (lifecycle.state, lifecycle.generation) == (state, generation)
        assert lifecycle.error is None


def test_every_state_has_a_row_and_can_be_drained() -> None:
    assert set(TRANSITIONS) == set(State)
    assert all(row[Event.DRAIN] is State.DRAINING for row in TRANSITIONS.values())


@pytest.mark.parametrize("state", list(State))
def test_only_the_three_states_of_the_contract_are_reported(state: State) -> None:
    assert lifecycle_in(state).reported in {"dormant", "initializing", "ready"}


@pytest.mark.parametrize("state", [s for s in State if s is not State.DRAINING])
def test_draining_reports_what_the_state_was(state: State) -> None:
    lifecycle = lifecycle_in(state)
    before = lifecycle.reported
    lifecycle.error = "last error"
    lifecycle.apply(Event.DRAIN)
    assert (lifecycle.reported, lifecycle.error) == (before, "last error")


def test_listeners_hear_every_change_in_order() -> None:
    heard: list[tuple[str, State, Event]] = []
    lifecycle = Lifecycle()
    lifecycle.subscribe(lambda state, event: heard.append(("first", state, event)))
    lifecycle.subscribe(lambda state, event: heard.append(("second", state, event)))
    lifecycle.apply(Event.INIT_ACCEPTED)
    assert heard == [
        ("first", State.INITIALIZING, Event.INIT_ACCEPTED),
        ("second", State.INITIALIZING, Event.INIT_ACCEPTED),
    ]


def test_a_listener_that_fails_keeps_nobody_from_hearing() -> None:
    heard: list[State] = []

    def fails(_state: State, _event: Event) -> None:
        raise RuntimeError

    lifecycle = Lifecycle()
    lifecycle.subscribe(fails)
    lifecycle.subscribe(lambda state, _event: heard.append(state))
    assert lifecycle.apply(Event.INIT_ACCEPTED) is State.INITIALIZING
    assert heard == [State.INITIALIZING]


def test_restarting_is_what_follows_a_death_until_it_is_ready_or_given_up() -> None:
    lifecycle = Lifecycle()
    told = []
    for event in (
        *(Event.INIT_ACCEPTED, Event.UPSTREAM_READY, Event.UPSTREAM_DIED, Event.RETRIED),
        *(Event.UPSTREAM_READY, Event.UPSTREAM_DIED, Event.INIT_FAILED, Event.INIT_ACCEPTED),
    ):
        lifecycle.apply(event)
        told.append(lifecycle.restarting)
    assert told == [False, False, True, True, False, True, False, False]


def test_repr_tells_state_generation_and_error() -> None:
    assert repr(Lifecycle()) == "<Lifecycle dormant generation=0 error=None>"


def test_readme_shows_the_diagram_of_the_table() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"```mermaid\n{diagram()}```" in readme, (
        "the README's state diagram is not the table's; paste this:\n" + diagram()
    )


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("path", sorted(CONTROL_PATHS))
@pytest.mark.parametrize("query", [b"", b"?", b"?details=true"])
def test_control_plane_owns_its_exact_paths_in_every_state(
    state: State, path: bytes, query: bytes
) -> None:
    assert decide(state, path + query) is Verdict.CONTROL


# Targets that somebody downstream might read as one of the control plane's, or as harmless.
CONFUSING = [
    b"/api/init/",
    b"//api/init",
    b"/api//init",
    b"/api/./init",
    b"/api/x/../init",
    b"/api/%69nit",
    b"/API/INIT",
    b"/api/init;x",
    b"/api/init%3Fx",
    b"/health/",
    b"/healthz",
    b"/ready/x",
    b"/ready%00",
    b"/",
    b"/docs",
    b"/openapi.json",
    b"/sockets/events/1",
    b"/api/conversations",
    b"*",
]


@pytest.mark.parametrize("target", CONFUSING)
def test_everything_else_is_relayed_only_when_ready(target: bytes) -> None:
    verdicts = {state: decide(state, target) for state in State}
    assert verdicts == {
        State.WARMING: Verdict.REFUSE,
        State.DORMANT: Verdict.REFUSE,
        State.INITIALIZING: Verdict.REFUSE,
        State.READY: Verdict.RELAY,
        State.DRAINING: Verdict.CLOSE,
    }


def test_open_paths_are_exact_and_closed_when_draining() -> None:
    paths = frozenset({b"/docs"})
    assert decide(State.DORMANT, b"/docs?x", paths) is Verdict.RELAY
    assert decide(State.DORMANT, b"/docs/", paths) is Verdict.REFUSE
    assert decide(State.DRAINING, b"/docs", paths) is Verdict.CLOSE


def test_only_what_comes_while_an_upstream_is_on_its_way_is_held() -> None:
    verdicts = {state: decide(state, b"/", hold=True) for state in State}
    assert verdicts == {
        State.WARMING: Verdict.REFUSE,
        State.DORMANT: Verdict.REFUSE,
        State.INITIALIZING: Verdict.HOLD,
        State.READY: Verdict.RELAY,
        State.DRAINING: Verdict.CLOSE,
    }
    assert decide(State.INITIALIZING, b"/health", hold=True) is Verdict.CONTROL
    assert decide(State.INITIALIZING, b"/docs", frozenset({b"/docs"}), hold=True) is Verdict.RELAY
