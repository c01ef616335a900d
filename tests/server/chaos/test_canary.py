"""Nothing of one user is in the next one's pod: memory, descriptors, files, events, logs.

The first user's server ends in one of the ways in `ENDS`; then another user claims the pod, and
every process of it is searched for what the first one has delivered, said, sent and stored. Of the
proxy and the launcher only what their programs can still reach counts.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import textwrap
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.server.chaos.kin import subreaper
from tests.server.chaos.pod import Pod
from tests.server.chaos.scan import Canary, Found
from tests.server.chaos.user import User, found_in_events

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from tests.harness import Serve

# What these have freed is not wiped. It stays where it is: their memory cannot be read by others of
# their user, and is never forked without an exec.
NOT_WIPED = ("proxy", "launcher")
READY = {"state": "ready", "error": None}
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks into others' memory"),
]


@asynccontextmanager
async def lived_in(pod: Pod) -> AsyncIterator[User]:
    with subreaper():
        try:
            await pod.begin()
            await pod.until(lambda: pod.warm)
            async with User(pod) as user:
                yield user
        finally:
            await pod.end()


async def ready(pod: Pod, user: User) -> None:
    assert await pod.proxy.init(user.request()) == (200, READY)
    await user.work()


async def killed(pod: Pod, *roles: str) -> None:
    """Kill those, with the container of who is its first process."""
    there = pod.roles()
    chosen = {there[role] for role in roles}
    for pid in chosen:
        pod.signal(pid, signal.SIGKILL)
    assert await pod.until(lambda: not chosen & {one.pid for one in pod.kin()})
    assert await pod.without_orphans(killed=True)


# How a user's time ends


async def failed_init(pod: Pod, user: User) -> None:
    words = {"WITNESS_EXIT": "3", "LAST_WORDS": user.word("last-words")}
    assert (await pod.proxy.init(user.request(**words)))[0] == 500


async def its_own_end(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await pod.dismiss()


async def upstream_killed(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await killed(pod, "upstream")


async def launcher_killed(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await killed(pod, "launcher")


async def forkserver_killed(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await killed(pod, "forkserver")
    await pod.dismiss()


async def waiting_killed(pod: Pod, user: User) -> None:
    await killed(pod, "waiting")
    await ready(pod, user)
    await pod.dismiss()


async def proxy_killed(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await killed(pod, "proxy")
    await pod.proxy.ended()
    await pod.revive()
    if pod.agent is not None:
        await pod.proxy.until("ready")
        await pod.dismiss()


async def all_killed(pod: Pod, user: User) -> None:
    await ready(pod, user)
    await killed(pod, "proxy", "launcher")
    await pod.proxy.ended()


ENDS: list[Callable[[Pod, User], Awaitable[None]]] = [
    *(failed_init, its_own_end, upstream_killed, launcher_killed, forkserver_killed),
    *(waiting_killed, proxy_killed, all_killed),
]


async def followed(pod: Pod, end: Callable[[Pod, User], Awaitable[None]], user: User) -> None:
    """Let the user's time end so, and the next one's begin."""
    await end(pod, user)
    (pod.witness / "answer").touch()
    await pod.revive()
    await pod.proxy.until("dormant")
    assert await pod.until(lambda: not user.canary.in_directory(pod.directory)), pod.files()
    assert await pod.claim("bob") == (200, READY)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("where", ["spawn", "launcher"])
async def test_nothing_of_a_user_is_in_the_next_ones_pod(
    where: str, end: Callable[[Pod, User], Awaitable[None]], serve: Serve, tmp_path: Path
) -> None:
    pod = Pod(tmp_path, serve, apart=where == "launcher", on_exit="dormant")
    async with lived_in(pod) as alice:
        await alice.watch()
        await followed(pod, end, alice)
        logged = pod.proxy.log
        begun = max(n for n, line in enumerate(logged) if line.get("cause") == "INIT_ACCEPTED")
        kin = {one.role: one.pid for one in pod.kin() if one.role not in NOT_WIPED}
        found = {role: alice.canary.in_process(pid) for role, pid in kin.items()}
        assert "upstream" in found
        epoch = alice.event.partition("-")[0]
        found["events"] = await found_in_events(pod, alice.canary, [alice.event, f"{epoch}-0"])
        await pod.proxy.until("dormant")
        found["files"] = alice.canary.in_directory(tmp_path)
        found["log"] = [*alice.canary.within(json.dumps(logged[begun:]).encode(), "log")]
    assert not any(found.values()), listed(found)


@pytest.mark.parametrize("end", [failed_init, its_own_end], ids=lambda end: end.__name__)
@pytest.mark.parametrize("where", ["spawn", "launcher"])
async def test_proxy_and_launcher_let_go(
    where: str, end: Callable[[Pod, User], Awaitable[None]], serve: Serve, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    places = {"proxy": tmp_path / "in-proxy", "launcher": tmp_path / "in-launcher"}
    inspected(site, places["proxy"])
    pod = Pod(
        tmp_path,
        serve,
        apart=where == "launcher",
        on_exit="dormant",
        env={"PYTHONPATH": str(site)},
    )
    if pod.agent is not None:
        pod.agent.program = inspected_launcher(site, pod.agent.program, places["launcher"])
    else:
        del places["launcher"]  # the same program
    async with lived_in(pod) as alice:
        await followed(pod, end, alice)
        for role, place in places.items():
            pid = pod.roles()[role]
            assert await reached(pod, pid, place, Canary("session-bob")) != []
            ways = await reached(pod, pid, place, alice.canary)
            assert not ways, "\n".join(ways)


def inspected(site: Path, place: Path) -> None:
    """Make what an interpreter imports at its start when `site` is on its path."""
    site.mkdir()
    shutil.copy(Path(__file__).with_name("reachable.py"), site)
    (site / "sitecustomize.py").write_text(f"import reachable; reachable.install({str(place)!r})")


def inspected_launcher(site: Path, launcher: Path, place: Path) -> Path:
    script = site / "launcher.py"
    script.write_text(
        textwrap.dedent(f"""
            import runpy, sys
            sys.path.insert(0, {str(site)!r})
            import reachable
            reachable.install({str(place)!r})
            runpy.run_path({str(launcher)!r}, run_name="__main__")
        """)
    )
    return script


async def reached(pod: Pod, pid: int, place: Path, canary: Canary) -> list[str]:
    """The ways from the roots of a program to the objects that hold the canary."""
    answer = place.with_suffix(".answer")
    answer.unlink(missing_ok=True)
    place.write_text("\n".join(spelling.hex() for spelling in canary.spellings))
    pod.signal(pid, signal.SIGRTMIN)
    assert await pod.until(answer.exists)
    ways: list[str] = json.loads(answer.read_text())
    return ways


def listed(found: dict[str, list[Found]]) -> str:
    return "\n".join(
        f"{who}: {one.where}: {one.around!r}" for who, all_of in found.items() for one in all_of[:3]
    )
