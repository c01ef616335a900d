"""Each state of the life cycle with each victim: what the pod says afterwards is true.

In two containers the proxy, or the launcher with everything in its container, or both are killed
and started again; in one container the proxy's death is everybody's.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.server.mortal import GLANCE, USER, Mortal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def warming(pod: Mortal) -> None:
    pod.hold("importing")
    await pod.begin()
    await pod.forkserver()


async def waiting(pod: Mortal) -> None:
    """An init was accepted and waits for the fork server."""
    await warming(pod)
    pod.post()
    async with asyncio.timeout(60):
        # The state is looked at before the body, which is none.
        while "already in state" not in str(await pod.bad_claim()):
            await asyncio.sleep(GLANCE)


async def dormant(pod: Mortal) -> None:
    await pod.begin()
    await pod.proxy.logged(lambda line: line.get("cause") == "WARMED")


async def starting(pod: Mortal) -> None:
    await dormant(pod)
    pod.freeze_launcher()
    pod.post()
    await pod.until_phase("start")


async def probing(pod: Mortal) -> None:
    await dormant(pod)
    pod.hold("unready")
    pod.post()
    await pod.until_up()
    await pod.until_phase("probe")


async def undoing(pod: Mortal) -> None:
    pod.hold("stubborn")
    await probing(pod)
    pod.leaving = int((await pod.details())["pid"])
    await pod.until_phase("undo")


async def ready(pod: Mortal) -> None:
    await dormant(pod)
    await pod.claim()


async def waiting_to_restart(pod: Mortal) -> None:
    await ready(pod)
    pod.hold("broken")
    await pod.kill("agent")
    # The delays double: late ones are long enough to be met.
    async with asyncio.timeout(60):
        while (await pod.details())["restarts"] < 4:
            await asyncio.sleep(GLANCE)
    await pod.until_phase("backoff")


async def draining(pod: Mortal) -> None:
    await ready(pod)
    pod.hold("slow")
    headers = {"X-Session-API-Key": USER}
    pod.slow = asyncio.create_task(pod.proxy.get("/api/slow", headers=headers))
    async with asyncio.timeout(60):
        while not (pod.steer / "slow-begun").exists():
            await asyncio.sleep(0.01)
    pod.drains = True
    pod.proxy.process.terminate()
    await pod.proxy.logged(lambda line: line.get("state") == "draining")


STATES: dict[str, Callable[[Mortal], Awaitable[None]]] = {
    state.__name__: state
    for state in (
        *(warming, waiting, dormant, starting, probing, undoing),
        *(ready, waiting_to_restart, draining),
    )
}
# State -> victim -> what the pod comes back to. Where there is no agent it cannot be killed.
AGENT_LOST = {"agent": "dormant"}
APART = {
    "warming": {"proxy": "dormant", "forkserver": "dormant", "launcher": "dormant"},
    "waiting": {"proxy": "dormant", "forkserver": "ready", "launcher": "ready"},
    "dormant": {"proxy": "dormant", "forkserver": "dormant", "launcher": "dormant"},
    # Whether the launcher had been told to start before the proxy was killed, nobody can say.
    "starting": {"proxy": "ready or dormant", "forkserver": "ready", "launcher": "dormant"},
    "probing": {"proxy": "ready", "forkserver": "ready", "launcher": "dormant"} | AGENT_LOST,
    "undoing": {"proxy": "dormant", "forkserver": "dormant", "launcher": "dormant"} | AGENT_LOST,
    "ready": {"proxy": "ready", "forkserver": "ready", "launcher": "ready", "agent": "ready"},
    "waiting_to_restart": {"proxy": "dormant", "forkserver": "ready", "launcher": "ready"},
    "draining": {"proxy": "ready", "forkserver": "dormant", "launcher": "dormant"} | AGENT_LOST,
}
TOGETHER = {
    state: {victim: "dormant" if victim == "proxy" else end for victim, end in ends.items()}
    for state, ends in APART.items()
}


def cases(
    containers: int, table: dict[str, dict[str, str]], **more: str
) -> list[tuple[int, str, str, str]]:
    return [
        (containers, state, victim, end)
        for state, ends in table.items()
        for victim, end in {**ends, **more}.items()
    ]


@pytest.mark.parametrize(
    ("containers", "state", "victim", "end"),
    [*cases(2, APART, both="dormant"), *cases(1, TOGETHER)],
)
async def test_what_a_pod_says_after_a_death_is_true(
    state: str, victim: str, end: str, serve: Serve, tmp_path: Path, *, containers: int
) -> None:
    timeout = 3 if state == "undoing" else 20
    pod = Mortal(tmp_path, serve, apart=containers == 2, timeout=timeout)
    try:
        await STATES[state](pod)
        await pod.kill(victim)
        pod.release()
        await pod.come_back()
        await pod.settles_as(end)
    finally:
        await pod.end()
