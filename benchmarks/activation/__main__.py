"""From POST to 200 on a real agent server: cold, warm, and by its own deferred init.

The three take turns, round by round, so that a machine that gets slower is slower for all. Memory
is measured afterwards with one of them running at a time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.activation.servers import BenchmarkError, BuiltIn, Proxied, record

MB = 1e6
POLL = 0.002  # seconds between two looks
QUIET = 1.0  # seconds from a change of state to a memory reading
SETTLE = 7.0  # seconds for a fork server to have its next child in waiting
CRASHES = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activation", description=__doc__)
    parser.add_argument("python", help="interpreter of an environment with the agent server")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--plan", type=Path, help="a recorded plan (default: record one)")
    parser.add_argument("--no-built-in", action="store_true", help="the release has none")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    # The servers run elsewhere. Links stay: an environment is known by the place of its own.
    args.python = str(Path(args.python).absolute())
    with tempfile.TemporaryDirectory() as home:
        plan = args.plan or Path(home, "plan.json")
        result: dict[str, object] = {}
        if args.plan is None:
            result["record"] = record(args.python, plan)
        result |= activations(args.python, plan, args.rounds, built_in=not args.no_built_in)
        result |= memory(args.python, plan, built_in=not args.no_built_in)
    if args.json:
        args.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))
    return 0


def activations(python: str, plan: Path, rounds: int, *, built_in: bool) -> dict[str, object]:
    """Seconds of every activation, by way."""
    times: dict[str, list[float]] = {"cold": [], "warm": [], "built-in": []}
    with (
        Proxied(python, plan=None, on_exit="dormant") as cold,
        Proxied(python, plan=plan, on_exit="dormant") as warm,
    ):
        for number in range(rounds):
            for name, proxy in (("cold", cold), ("warm", warm)):
                times[name].append(proxy.activate(f"key-{number}"))
                kind = proxy.details()["start"]
                if kind["kind"] != name:
                    raise BenchmarkError(f"started {kind['kind']}: {kind['why']}")
                proxy.kill()
                proxy.until_state("dormant")
            if built_in:
                with BuiltIn(python) as server:
                    times["built-in"].append(server.activate("key"))
            else:
                time.sleep(SETTLE)
    return {"times": times, "median": {k: statistics.median(v) for k, v in times.items() if v}}


def memory(python: str, plan: Path, *, built_in: bool) -> dict[str, object]:
    """Bytes of each tree, dormant and ready; and seconds from a crash to ready."""
    found: dict[str, tuple[int, int]] = {}
    crashes = []
    if built_in:
        with BuiltIn(python) as server:
            time.sleep(QUIET)
            dormant = server.memory()
            server.activate("key")
            time.sleep(QUIET)
            found["built-in"] = (dormant, server.memory())
    with Proxied(python, plan=plan, on_exit="restart") as warm:
        time.sleep(QUIET)
        dormant = warm.memory()
        warm.activate("key")
        time.sleep(QUIET)
        found["warm"] = (dormant, warm.memory())
        for _ in range(CRASHES):
            time.sleep(SETTLE)
            crashes.append(crash(warm))
    return {"memory": found, "crash": crashes}


def crash(proxy: Proxied) -> float:
    """Seconds from SIGKILL of the upstream to ready again, as a client sees it."""
    before = proxy.details()["restarts"]
    begun = time.monotonic()
    proxy.kill()
    while True:
        details = proxy.details()
        if details["restarts"] > before and details["state"] == "ready":
            return time.monotonic() - begun
        time.sleep(POLL)


def table(result: dict[str, object]) -> str:
    median: dict[str, float] = result["median"]  # type: ignore[assignment]
    sizes: dict[str, tuple[int, int]] = result["memory"]  # type: ignore[assignment]
    crashes: list[float] = result["crash"]  # type: ignore[assignment]
    cold = median["cold"]
    lines = ["| | POST to 200 | faster than cold | memory dormant | memory ready |"]
    lines.append("|---|---|---|---|---|")
    for name, seconds in median.items():
        dormant, ready = (
            (f"{size / MB:.0f} MB" for size in sizes[name]) if name in sizes else ("", "")
        )
        lines.append(
            f"| {name} | {seconds:.3f} s | {cold / seconds:.1f} times | {dormant} | {ready} |"
        )
    if "built-in" in sizes:
        ratio = [
            ours / theirs for ours, theirs in zip(sizes["warm"], sizes["built-in"], strict=True)
        ]
        lines.append(f"\nmemory, warm : built-in: dormant {ratio[0]:.2f}, ready {ratio[1]:.2f}")
    lines.append(f"crash to ready: {statistics.median(crashes):.3f} s")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
