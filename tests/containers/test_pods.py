"""The overlays with two containers, as pods: claimed, killed in every way, ended."""

from __future__ import annotations

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.containers.podman import PATIENCE, podman
from tests.containers.pods import Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.containers, pytest.mark.timeout(180)]

USER = "the-users-session-key"
INIT = {"session_api_keys": [USER], "conversations_path": "/workspace/conversations"}


@contextmanager
def pod(overlay: str) -> Iterator[Pod]:
    made = Pod(overlay)
    try:
        yield made.start()
    finally:
        made.close()


def conversations(pod: Pod, key: str) -> int:
    return pod.proxy.request("GET", "/api/conversations", X_Session_API_Key=key)[0]


def claim(pod: Pod) -> None:
    assert pod.proxy.init(INIT) == (200, {"state": "ready", "error": None})
    assert conversations(pod, USER) == 200
    assert conversations(pod, "another") == 401


def settled(pod: Pod) -> str:
    """The state, once it is one that stays, and what it says holds."""
    deadline = time.monotonic() + PATIENCE
    state = ""
    while time.monotonic() < deadline:
        try:
            ready = pod.proxy.request("GET", "/ready")[0] == 200
            state = str(pod.proxy.request("GET", "/api/init")[1]["state"])
        except OSError:
            ready = False
        if ready and state in {"dormant", "ready"}:
            break
        time.sleep(0.05)
    if state == "ready":
        assert conversations(pod, USER) == 200
    else:
        assert state == "dormant", pod.proxy.logs()
        assert conversations(pod, USER) == 503
        claim(pod)
    return state


def test_sidecar_a_pod_is_claimed_warm() -> None:
    with pod("sidecar") as made:
        made.proxy.until("/ready")
        begun = time.monotonic()
        claim(made)
        details = made.proxy.request("GET", "/api/init?details=true")[1]
        print(f"\nclaimed in {time.monotonic() - begun:.3f} s: {details['timings']}")
        assert details["start"] == {"kind": "warm", "why": None}


def test_sidecar_code_in_the_agents_container_can_do_nothing_with_the_socket() -> None:
    with pod("sidecar") as made:
        made.proxy.until("/ready")
        claim(made)
        ask = (
            "import socket, json\n"
            "s = socket.socket(socket.AF_UNIX)\n"
            "s.connect('/run/deferred-init/socket/launcher.sock')\n"
            "f = s.makefile('rw')\n"
            "print(json.dumps({'op': 'identify', 'version': 1}), file=f, flush=True)\n"
            "print(f.readline(), repr(f.read()))\n"
        )
        said = made.exec(made.agent, ask)
        assert "cannot identify: another controller was here before" in said.stdout
        for secret in ("/proc/1/environ", "/run/deferred-init/private/token"):
            assert made.exec(made.agent, f"open({secret!r}).read()").returncode == 1
        change = "import os; os.chmod('/run/deferred-init/launcher/launcher.pyz', 0o777)"
        assert "Read-only" in made.exec(made.agent, change).stderr
        assert conversations(made, USER) == 200


# Who is killed -> the state that a claimed pod comes back to.
VICTIMS = {"proxy": "ready", "agent": "ready", "both": "dormant"}


@pytest.mark.parametrize("claimed", [False, True], ids=["dormant", "ready"])
@pytest.mark.parametrize("victim", VICTIMS)
def test_sidecar_whoever_is_killed_the_pod_says_truly_what_it_is(
    victim: str, *, claimed: bool
) -> None:
    with pod("sidecar") as made:
        made.proxy.until("/ready")
        if claimed:
            claim(made)
        victims = {"proxy": [made.proxy], "agent": [made.agent]}.get(
            victim, [made.proxy, made.agent]
        )
        for container in victims:
            podman("kill", "--signal", "KILL", container.name)
            assert container.wait() == 137
        for container in victims:
            made.restart(container)
        assert settled(made) == (VICTIMS[victim] if claimed else "dormant")


# Whether the launcher had been told to start before the proxy was killed, nobody can say.
@pytest.mark.parametrize(
    ("victim", "ends"), [("proxy", {"ready", "dormant"}), ("agent", {"dormant"})]
)
def test_sidecar_killed_while_it_initializes(victim: str, ends: set[str]) -> None:
    with pod("sidecar") as made, ThreadPoolExecutor() as threads:
        made.proxy.until("/ready")
        launcher = made.agent.pid
        os.kill(launcher, signal.SIGSTOP)  # so that the start goes no further
        posted = threads.submit(made.proxy.init, INIT)
        made.proxy.until_state("initializing")
        container = getattr(made, victim)
        podman("kill", "--signal", "KILL", container.name)
        container.wait()
        if victim == "proxy":
            os.kill(launcher, signal.SIGCONT)
        made.restart(container)
        assert settled(made) in ends
        error = posted.exception(PATIENCE)
        assert error is not None if victim == "proxy" else posted.result()[0] == 500


def test_sidecar_the_pods_end_is_orderly() -> None:
    with pod("sidecar") as made:
        made.proxy.until("/ready")
        claim(made)
        podman("stop", "--time", "50", made.agent.name)
        assert made.agent.wait() == 0
        assert made.proxy.wait() == 0
        assert '"stopped"' in made.proxy.logs()


def test_signal_a_pod_is_claimed_and_its_agent_comes_back() -> None:
    with pod("signal") as made:
        made.proxy.until("/ready")
        claim(made)
        podman("kill", "--signal", "KILL", made.agent.name)
        made.agent.wait()
        made.restart(made.agent)
        assert settled(made) == "ready"
