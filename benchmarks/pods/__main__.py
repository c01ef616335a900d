"""What a claim takes in a pod of two containers and of one, and what the containers need.

    python -m benchmarks.pods [--agent real|sample] [--rounds N] [--json FILE] [--check]

As root, with podman and the images of `.ci/containers` and (for the real agent server)
`.ci/containers-real`. The pods are those of the overlays; in each round one of each kind is
started, and claimed when both are dormant and still.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import sys
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.claiming import claim
from benchmarks.peak import Peak
from benchmarks.pods.cgroup import ControlGroup
from benchmarks.proxied import BenchmarkError
from tests.containers.podman import AGENT_WARM_IMAGE, ENTRYPOINT_IMAGE, KEY, PROXY_IMAGE, podman
from tests.containers.pods import REAL, SAMPLE, Agent, Pod

if TYPE_CHECKING:
    from collections.abc import Iterator

OVERLAYS = {"sidecar": "two containers", "entrypoint": "one container"}
TIMES_AS_LONG = 1.3  # the bar: two containers by one
PLAN = "/etc/deferred-init-image/preload-plan.json"
BOOT = 240.0
QUIET = 3.0  # seconds for the fork server to have its next child in waiting
REST = 10.0
PAUSE = 0.02  # seconds between two looks at a working set
CONNECTIONS = 1000
MB = 1e6
INIT = {
    "session_api_keys": ["session-key"],
    "env": {"LLM_API_KEY": "none"},
    "conversations_path": "/workspace/conversations",
}


def plan_of(image: str) -> str:
    options = ("--network", "none", "--entrypoint", "/bin/cat")
    return podman("run", "--rm", *options, image, PLAN)


@contextmanager
def started(overlay: str, agent: Agent, plan: str) -> Iterator[Pod]:
    pod = Pod(overlay, agent, plan=plan, dormancy="preload")
    try:
        yield pod.start()
    finally:
        pod.close()


def warm_claim(pod: Pod) -> float:
    """Seconds that an init takes, by a warm start."""
    connect = functools.partial(pod.proxy.connection, pod.proxy.pid)
    taken = claim(connect, json.dumps(INIT), KEY)
    start = pod.proxy.request("GET", "/api/init?details=true")[1]["start"]
    if start["kind"] != "warm":
        raise BenchmarkError(f"started {start['kind']}: {start['why']}")
    return taken


def claims(agent: Agent, plan: str, rounds: int) -> dict[str, Any]:
    times: dict[str, list[float]] = {overlay: [] for overlay in OVERLAYS}
    for number in range(rounds):
        with ExitStack() as stack:
            pods = {o: stack.enter_context(started(o, agent, plan)) for o in OVERLAYS}
            for pod in pods.values():
                pod.proxy.until("/ready", patience=BOOT)
            time.sleep(QUIET)
            # Turn and turn about who is first.
            for overlay in sorted(OVERLAYS, reverse=bool(number % 2)):
                times[overlay].append(warm_claim(pods[overlay]))
    middle = {overlay: statistics.median(each) for overlay, each in times.items()}
    return {"seconds": times, "median": middle, "ratio": middle["sidecar"] / middle["entrypoint"]}


def resources(overlay: str, agent: Agent, plan: str) -> dict[str, dict[str, float]]:
    """Of each container: working sets in MB, seconds on a processor, per cent of one at rest."""
    begun = time.monotonic()
    with started(overlay, agent, plan) as pod:
        containers = {"agent": pod.agent}
        if pod.proxy is not pod.agent:
            containers["proxy"] = pod.proxy
        groups = {name: ControlGroup.of(each.pid) for name, each in containers.items()}
        found: dict[str, dict[str, float]] = {name: {} for name in groups}

        def note(what: str) -> None:
            for name, group in groups.items():
                found[name][what] = group.working_set() / MB

        with ExitStack() as stack:
            peaks = {
                name: stack.enter_context(Peak(group.working_set, PAUSE))
                for name, group in groups.items()
            }
            pod.proxy.until("/ready", patience=BOOT)
            took = time.monotonic() - begun
            time.sleep(QUIET)
        note("dormant")
        for name, group in groups.items():
            found[name]["until warm"] = took
            found[name]["peak until dormant"] = peaks[name].largest / MB
            found[name]["processor until dormant"] = group.processor_time()
        found_at_rest(groups, found)
        before = {name: group.processor_time() for name, group in groups.items()}
        warm_claim(pod)
        for name, group in groups.items():
            found[name]["processor for a claim"] = group.processor_time() - before[name]
        time.sleep(QUIET)
        note("ready")
        with many_connections(pod):
            note(f"with {CONNECTIONS} connections")
    return found


@contextmanager
def many_connections(pod: Pod) -> Iterator[None]:
    """Kept alive, each after one request that was relayed."""
    with ExitStack() as stack:
        pid = pod.proxy.pid
        for _ in range(CONNECTIONS):
            connection = pod.proxy.connection(pid)
            stack.callback(connection.close)
            connection.request("GET", "/alive")
            connection.getresponse().read()
        yield


def found_at_rest(groups: dict[str, ControlGroup], found: dict[str, dict[str, float]]) -> None:
    before = {name: group.processor_time() for name, group in groups.items()}
    time.sleep(REST)
    for name, group in groups.items():
        found[name]["per cent at rest"] = 100 * (group.processor_time() - before[name]) / REST


def installing() -> float:
    """MB: the largest resident set of the init container's command."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    python = "/opt/proxy/bin/python"
    command = (python, "-I", "-m", "proxy", "install-launcher", "/tmp/launcher.pyz")
    options = ("--rm", "--network", "none", "--entrypoint", python)
    return int(podman("run", *options, PROXY_IMAGE, "-c", code, *command)) * 1024 / MB


def show(result: dict[str, Any]) -> None:
    for overlay, seconds in result["claims"]["seconds"].items():
        spread = f"{min(seconds):.3f} to {max(seconds):.3f}, {len(seconds)} pods"
        middle = result["claims"]["median"][overlay]
        print(f"claim, {OVERLAYS[overlay]}: {middle:.3f} s  ({spread})")
    ratio = result["claims"]["ratio"]
    verdict = "met" if ratio <= TIMES_AS_LONG else "MISSED"
    print(f"two containers by one: {ratio:.2f}  (<= {TIMES_AS_LONG}: {verdict})")
    for pod, found in result.get("resources", {}).items():
        for container, numbers in found.items():
            text = ", ".join(f"{what} {value:.3g}" for what, value in numbers.items())
            print(f"{pod}, container {container}: {text}")
    if "installing" in result:
        print(f"init container launcher: peak {result['installing']:.3g}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pods", description=__doc__)
    parser.add_argument("--agent", choices=["real", "sample"], default="real")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--claims-only", action="store_true", help="no memory and processor time")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    arguments = parser.parse_args()
    real = arguments.agent == "real"
    agent, plan = REAL if real else SAMPLE, plan_of(AGENT_WARM_IMAGE if real else ENTRYPOINT_IMAGE)
    result: dict[str, Any] = {"claims": claims(agent, plan, arguments.rounds)}
    if not arguments.claims_only:
        result["resources"] = {"sidecar, recording": resources("sidecar", agent, "")}
        if real:  # the sample agent's plan is for the other image's packages
            result["resources"]["sidecar, with a plan"] = resources("sidecar", agent, plan)
        result["resources"]["entrypoint"] = resources("entrypoint", agent, plan)
        result["installing"] = installing()
    show(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n")
    return 1 if arguments.check and result["claims"]["ratio"] > TIMES_AS_LONG else 0


if __name__ == "__main__":
    sys.exit(main())
