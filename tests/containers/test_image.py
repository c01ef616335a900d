"""The images that `.ci/containers` builds, run as the restricted Pod Security profile has it."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.containers.podman import (
    BASE_IMAGE,
    ENTRYPOINT_IMAGE,
    KEY,
    PROXY_IMAGE,
    podman,
)

if TYPE_CHECKING:
    from tests.containers.conftest import Run

pytestmark = pytest.mark.containers

WITH_KEY = ("--env", f"OH_SECRET_KEY={KEY}")
SESSION = {"session_api_keys": ["the-users-session-key"], "env": {"GREETING": "hello"}}


def image(name: str) -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(podman("image", "inspect", name))
    return found[0]


def test_the_image_says_what_it_is_and_who_it_runs_as() -> None:
    config = image(PROXY_IMAGE)["Config"]
    assert config["User"] == "10001:10001"
    assert config["Labels"]["org.opencontainers.image.title"] == "deferred-init-proxy"
    assert config["Entrypoint"][0].startswith("/")
    assert image(PROXY_IMAGE)["Healthcheck"]["Test"][0] == "CMD"  # no shell


def test_the_image_is_small() -> None:
    above = (image(PROXY_IMAGE)["Size"] - image(BASE_IMAGE)["Size"]) / 1e6
    print(f"\nthe proxy's image: {above:.1f} MB above its base")
    assert above < 90


@pytest.mark.parametrize("name", [PROXY_IMAGE, ENTRYPOINT_IMAGE])
def test_a_hardened_container_goes_through_the_whole_life_cycle(run: Run, name: str) -> None:
    begun = time.monotonic()
    pod = run(*WITH_KEY, image=name)
    pod.until("/health")
    print(f"\n{name}: /health {time.monotonic() - begun:.2f} s after podman run was called")
    pod.until("/ready")
    assert pod.request("GET", "/api/conversations")[0] == 503
    assert pod.init(SESSION, key="wrong")[0] == 401
    assert pod.init(SESSION) == (200, {"state": "ready", "error": None})
    assert pod.request("GET", "/api/conversations")[0] == 401
    status, _ = pod.request("GET", "/api/conversations", X_Session_API_Key="the-users-session-key")
    assert status == 200


def test_the_entrypoint_image_starts_its_agent_warm(run: Run) -> None:
    pod = run(*WITH_KEY, image=ENTRYPOINT_IMAGE)
    pod.until("/ready")
    assert pod.init(SESSION)[0] == 200
    assert pod.request("GET", "/api/init?details=true")[1]["start"] == {"kind": "warm", "why": None}


def test_a_stop_drains_and_ends_with_0(run: Run) -> None:
    pod = run(*WITH_KEY)
    pod.until("/ready")
    assert pod.init(SESSION)[0] == 200
    podman("stop", "--time", "30", pod.name)
    assert pod.wait() == 0
    assert '"stopped"' in pod.logs()


def test_a_kill_ends_with_137_and_leaves_nothing(run: Run) -> None:
    pod = run(*WITH_KEY)
    pod.until("/ready")
    assert pod.init(SESSION)[0] == 200
    everybody = pod.processes()
    assert len(everybody) >= 3  # proxy, launcher, agent
    os.kill(pod.pid, signal.SIGKILL)
    assert pod.wait() == 137


def test_a_container_without_key_does_not_start(run: Run) -> None:
    pod = run()
    assert pod.wait() == 2
    assert "init.key" in pod.logs()


def test_orphans_are_reaped_by_the_first_process(run: Run) -> None:
    pod = run(*WITH_KEY)
    pod.until("/ready")
    before = set(pod.processes())
    leave = 'import os, subprocess; subprocess.Popen(["/bin/sleep", "0.05"]); os._exit(0)'
    podman("exec", pod.name, "/opt/proxy/bin/python", "-c", leave)
    deadline = time.monotonic() + 10
    while set(pod.processes()) - before:
        assert time.monotonic() < deadline, pod.processes()
        time.sleep(0.02)


def test_the_health_check_passes_and_fails_with_the_proxy(run: Run) -> None:
    pod = run(*WITH_KEY)
    pod.until("/health")
    podman("healthcheck", "run", pod.name)
    elsewhere = run(*WITH_KEY, "--env", "PROXY_LISTEN__ADDRESS=0.0.0.0:8001")
    with pytest.raises(AssertionError):
        podman("healthcheck", "run", elsewhere.name)
