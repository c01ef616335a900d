"""Activations with a starter and a probe of the test's own: what fails leaves the pod free."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from proxy.activation.starter import Exit, Outlook, Started
from proxy.activation.transaction import Activator
from proxy.errors import ActivationError, ActivationTimeoutError
from proxy.lifecycle.state import Event, Lifecycle, State
from proxy.settings import RestartSettings
from tests.activation.spawning import planned

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.starter import Found
    from proxy.lifecycle.plan import Plan

PLAN = planned("server")


class Fault(Exception):  # noqa: N818  a mistake of ours, of no known kind
    pass


def broken(*_args: object) -> None:
    raise Fault


class Upstreams:
    """A starter whose upstreams end when the test says so; `faults` are raised by its starts."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.found: Found | None = None
        self.unready: str | None = None
        self.waits = False
        self.outlook = Outlook("cold", None)
        self.warmed: asyncio.Future[str | None] = loop.create_future()
        self.warmed.set_result(None)
        self.faults: list[Exception] = []
        self.running: asyncio.Future[Exit] | None = None
        self.starts = 0

    async def open(self) -> None:
        pass

    async def hasten(self) -> None:
        pass

    async def start(self, _plan: Plan) -> Started:
        self.starts += 1
        if self.faults:
            raise self.faults.pop(0)
        self.running = asyncio.get_running_loop().create_future()
        return Started(pid=1, kind="warm", why=None, exited=self.running)

    def die(self, code: int) -> None:
        assert self.running is not None
        self.running.set_result(Exit(code=code, reason=f"exited with code {code}"))

    async def stop(self) -> None:
        self.running = None

    async def kill(self) -> None:
        await self.stop()

    async def signal(self, name: str) -> None: ...

    def renew(self) -> None:
        pass

    async def close(self) -> None:
        await self.stop()

    def owned_pids(self) -> frozenset[int]:
        return frozenset()


class Passing:
    """A probe that passes, or raises."""

    last_failure: str | None = None
    fault: Exception | None = None

    async def wait(self, _exited: asyncio.Future[Exit]) -> None:
        if self.fault is not None:
            raise self.fault


class Pod:
    def __init__(self, **given: Any) -> None:
        self.upstreams, self.probe = Upstreams(), Passing()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.lifecycle = Lifecycle()
        parts: dict[str, Any] = {
            "timeout": 20,
            "stop_grace": 0,
            "on_exit": "restart",
            "restarts": RestartSettings(),
            "on_plan": lambda _plan: None,
            "mask": str,
            "on_fatal": self.ended.set_result,
            "on_phase": lambda: None,
        }
        self.activator = Activator(
            lifecycle=self.lifecycle, starter=self.upstreams, probe=self.probe, **(parts | given)
        )

    def has(self, state: State) -> bool:
        return self.lifecycle.state is state

    async def until(self, wanted: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not wanted():
                await asyncio.sleep(0.001)


async def test_a_mistake_in_a_start_or_a_probe_leaves_nothing_and_can_be_retried() -> None:
    pod = Pod()
    pod.upstreams.faults = [Fault()]
    with pytest.raises(ActivationError, match="internal error: Fault"):
        await pod.activator.activate(PLAN)
    assert pod.has(State.DORMANT)
    pod.probe.fault = Fault()
    with pytest.raises(ActivationError, match="internal error: Fault"):
        await pod.activator.activate(PLAN)
    assert pod.has(State.DORMANT)
    assert pod.upstreams.running is None
    pod.probe.fault = None
    await pod.activator.activate(PLAN)
    assert pod.has(State.READY)


async def test_a_mistake_before_the_start_leaves_the_pod_free() -> None:
    pod = Pod(on_plan=broken)
    with pytest.raises(ActivationError, match="internal error: Fault"):
        await pod.activator.activate(PLAN)
    assert pod.has(State.DORMANT)
    pod.activator.admit()


@pytest.mark.parametrize("event", [Event.INIT_ACCEPTED, Event.UPSTREAM_READY, Event.INIT_FAILED])
async def test_a_listener_that_fails_holds_nothing_up(event: Event) -> None:
    pod = Pod(on_phase=broken)
    pod.lifecycle.subscribe(lambda _state, heard: broken() if heard is event else None)
    pod.upstreams.faults = [ActivationError("not now")]
    with pytest.raises(ActivationError, match="not now"):
        await pod.activator.activate(PLAN)
    assert pod.has(State.DORMANT)
    await pod.activator.activate(PLAN)
    assert pod.has(State.READY)
    pod.upstreams.die(3)
    await pod.until(lambda: pod.has(State.READY) and pod.upstreams.starts == 3)


async def test_whoever_joins_is_told_when_the_time_is_up() -> None:
    pod = Pod(timeout=0.05)
    await pod.activator.activate(PLAN)
    pod.upstreams.faults = [ActivationError("gone") for _ in range(9)]
    pod.upstreams.die(3)
    await pod.until(lambda: pod.has(State.INITIALIZING))
    with pytest.raises(ActivationTimeoutError, match=r"init\.timeout \(0\.05 s\): (gone|the up)"):
        await pod.activator.join()
    await pod.activator.shutdown()


@pytest.mark.parametrize(("code", "ends_with"), [(7, 7), (0, 1)])
async def test_an_upstream_that_does_not_stay_up_ends_the_proxy(code: int, ends_with: int) -> None:
    pod = Pod(restarts=RestartSettings(limit=3, within=900))
    await pod.activator.activate(PLAN)
    for start in range(1, 4):
        await pod.until(lambda start=start: pod.upstreams.starts == start)  # type: ignore[misc]
        await pod.until(lambda: pod.has(State.READY))
        pod.upstreams.die(code)
    assert await asyncio.wait_for(pod.ended, 20) == ends_with
    assert pod.upstreams.starts == 3
    assert pod.upstreams.running is None


async def test_restarts_that_fail_count_as_deaths() -> None:
    pod = Pod(restarts=RestartSettings(limit=3, within=900))
    await pod.activator.activate(PLAN)
    pod.upstreams.faults = [ActivationError("gone") for _ in range(9)]
    pod.upstreams.die(3)
    assert await asyncio.wait_for(pod.ended, 20) == 1
    assert pod.upstreams.starts == 3


async def test_deaths_long_ago_and_those_of_another_user_do_not_count() -> None:
    pod = Pod(restarts=RestartSettings(limit=2, within=0.05), on_exit="restart")
    await pod.activator.activate(PLAN)
    for start in range(1, 4):
        await pod.until(lambda start=start: pod.upstreams.starts == start)  # type: ignore[misc]
        await pod.until(lambda: pod.has(State.READY))
        await asyncio.sleep(0.1)  # more than `within`
        pod.upstreams.die(3)
    await pod.until(lambda: pod.upstreams.starts == 4 and pod.has(State.READY))
    assert not pod.ended.done()
    await pod.activator.shutdown()
