"""The overlays with the real agent server, in an image that nobody has changed for them.

`.ci/containers-real` builds it, and the proxy on top of it with a plan recorded at the build.
"""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.containers.podman import AGENT_WARM_IMAGE, KEY, podman
from tests.containers.pods import REAL, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containers.conftest import Run
    from tests.containers.podman import Container

pytestmark = [pytest.mark.containers, pytest.mark.real, pytest.mark.timeout(300)]

USER = "the-users-session-key"
INIT = {
    "session_api_keys": [USER],
    "env": {"GREETING": "hello"},
    "conversations_path": "/workspace/conversations",
}
SEARCH = "/api/conversations/search"
PLAN = "/etc/deferred-init-image/preload-plan.json"
BOOT = 180.0  # seconds for thousands of modules on a busy machine
OVERLAYS = ["sidecar", "entrypoint"]


@pytest.fixture(scope="module")
def plan() -> str:
    """The preload plan as an operator gets it: out of the image that was built on the agent's."""
    show = ("--entrypoint", "/bin/cat", AGENT_WARM_IMAGE, PLAN)
    return podman("run", "--rm", "--network", "none", *show)


@contextmanager
def dormant(overlay: str, plan: str, dormancy: str = "") -> Iterator[Pod]:
    pod = Pod(overlay, REAL, plan=plan, dormancy=dormancy)
    try:
        pod.start().proxy.until("/ready", patience=BOOT)
        yield pod
    finally:
        pod.close()


def search(pod: Pod, key: str | None = None) -> int:
    if key is None:
        return pod.proxy.request("GET", SEARCH)[0]
    return pod.proxy.request("GET", SEARCH, X_Session_API_Key=key)[0]


def claim(pod: Pod) -> None:
    assert pod.proxy.init(INIT) == (200, {"state": "ready", "error": None})
    assert search(pod, USER) == 200


@pytest.mark.parametrize(
    ("overlay", "dormancy", "kind"),
    [("sidecar", "", "native"), ("sidecar", "preload", "warm"), ("entrypoint", "", "native")],
)
def test_the_whole_life_cycle(overlay: str, dormancy: str, kind: str, plan: str) -> None:
    with dormant(overlay, plan, dormancy) as pod:
        assert search(pod) == 503
        assert search(pod, USER) == 503
        assert pod.proxy.init(INIT, key="wrong")[0] == 401
        claim(pod)
        details = pod.proxy.request("GET", "/api/init?details=true")[1]
        print(f"\n{overlay}, {kind}: {details['timings']}")
        assert details["start"] == {"kind": kind, "why": None}
        # The server's own authentication, with the key that came after the modules were imported.
        assert search(pod) == 401
        assert search(pod, "another") == 401
        assert pod.proxy.init(INIT)[0] == 400
        run = {"command": f"echo $GREETING; env | grep -c {KEY}", "cwd": "/workspace"}
        status, ran = pod.proxy.request(
            "POST", "/api/bash/execute_bash_command", run, X_Session_API_Key=USER,
            Content_Type="application/json",
        )  # fmt: skip
        assert (status, ran["stdout"].split()) == (200, ["hello", "0"])


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_the_pods_end_is_orderly(overlay: str, plan: str) -> None:
    with dormant(overlay, plan) as pod:
        claim(pod)
        podman("stop", "--time", "50", pod.agent.name)
        assert pod.agent.wait() == 0
        assert pod.proxy.wait() == 0
        assert '"stopped"' in pod.proxy.logs()


def test_the_image_with_the_proxy_on_top_needs_nothing_but_a_key(run: Run) -> None:
    pod = run("--env", f"OH_SECRET_KEY={KEY}", image=AGENT_WARM_IMAGE)
    pod.until("/ready", patience=BOOT)
    assert pod.init({"session_api_keys": [USER]}) == (200, {"state": "ready", "error": None})
    start = pod.request("GET", "/api/init?details=true")[1]["start"]
    assert start == {"kind": "native", "why": None}
    assert pod.request("GET", SEARCH)[0] == 401
    assert pod.request("GET", SEARCH, X_Session_API_Key=USER)[0] == 200
    assert pod.inspect()["Config"]["User"] == "10001:10001"
    podman("stop", "--time", "50", pod.name)
    assert pod.wait() == 0


def killed(container: Container) -> None:
    os.kill(container.pid, signal.SIGKILL)
    assert container.wait() == 137


def test_entrypoint_a_kill_ends_everything_and_the_next_life_is_dormant(plan: str) -> None:
    with dormant("entrypoint", plan) as pod:
        claim(pod)
        assert len(pod.proxy.processes()) >= 3  # proxy, launcher, agent server
        killed(pod.proxy)
        pod.restart(pod.proxy)
        pod.proxy.until("/ready", patience=BOOT)
        assert search(pod, USER) == 503
        claim(pod)


def test_sidecar_the_session_goes_on_after_a_kill_of_either_container(plan: str) -> None:
    with dormant("sidecar", plan) as pod:
        claim(pod)
        killed(pod.proxy)
        pod.restart(pod.proxy)
        pod.proxy.until_state("ready", patience=BOOT)
        assert search(pod, USER) == 200
        assert search(pod) == 401
        killed(pod.agent)
        pod.restart(pod.agent)
        pod.proxy.until_state("initializing", patience=BOOT)
        pod.proxy.until_state("ready", patience=BOOT)
        assert search(pod, USER) == 200
        assert search(pod) == 401


def test_sidecar_without_a_plan_one_is_recorded_at_the_start() -> None:
    with dormant("sidecar", "", "preload") as pod:
        claim(pod)
        assert pod.proxy.request("GET", "/api/init?details=true")[1]["start"]["kind"] == "warm"
        assert search(pod) == 401
