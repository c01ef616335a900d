"""From POST to 200 on real agent servers, by how they wait: cold, preloaded, and left to itself.

Nothing is configured but the command. For each release the three take turns, round by round, so
that a machine that gets slower is slower for all; times until Ready are taken one after the other.
A server that waits by itself is also measured without the proxy. Three minutes for a release.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.activation.servers import QUIET, ROOT, BenchmarkError, BuiltIn, Proxied

MB = 1e6
RELEASES = ("newest", "1.29.0", "1.20.1")
WAYS = ("cold", "auto", "preload")
POLL = 0.002  # seconds between two looks
STILL = 1.0  # seconds from a change of state to a memory reading


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activation", description=__doc__)
    parser.add_argument(
        "release",
        nargs="*",
        default=RELEASES,
        help="an environment that .ci/upstreams has made, or an interpreter's path",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--quiet",
        action="store_true",
        help=f"with {' '.join(f'{name}={value}' for name, value in QUIET.items())}",
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    results = {}
    for release in args.release:
        results[release] = measured(interpreter(release), args.rounds, QUIET if args.quiet else {})
        print(table(release, results[release]), flush=True)
    if args.json:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    return 0


def interpreter(release: str) -> str:
    """Links stay: an environment is known by the place of its own."""
    made = ROOT / ".real" / release / "bin" / "python"
    return str(made if made.exists() else Path(release).absolute())


def measured(python: str, rounds: int, env: dict[str, str]) -> dict[str, dict[str, Any]]:
    """By way: seconds until Ready, from POST to 200 and from a SIGKILL to ready; bytes; kind."""
    found: dict[str, dict[str, Any]] = {way: {"times": []} for way in WAYS}
    with tempfile.TemporaryDirectory() as home, ExitStack() as stack:
        plan = Path(home, "plan.json")  # made by the first that records, used by the next
        proxies: dict[str, Proxied] = {}
        for way in WAYS:
            begun = time.monotonic()
            proxies[way] = stack.enter_context(Proxied(python, way, plan, env))
            found[way]["until ready"] = time.monotonic() - begun
            time.sleep(STILL)
            found[way]["dormant"] = proxies[way].memory()
        for number in range(rounds):
            for way in WAYS if number % 2 else WAYS[::-1]:
                one_round(proxies[way], found[way])
        for way in WAYS[1:]:
            with Proxied(python, way, plan, env, on_exit="restart") as proxy:
                found[way]["crash"] = crash(proxy)
    if found["auto"]["kind"] == "native":
        found["built-in"] = built_in(python, env)
    return found


def one_round(proxy: Proxied, found: dict[str, Any]) -> None:
    """One claim, its end, and the wait until the pod can be claimed again."""
    found["times"].append(proxy.activate(f"key-{len(found['times'])}"))
    start = proxy.details()["start"]
    found.update(start)
    if "ready" not in found:
        time.sleep(STILL)
        found["ready"] = proxy.memory()
    proxy.kill()
    proxy.until_state("dormant")
    proxy.until("/ready", 200)


def built_in(python: str, env: dict[str, str]) -> dict[str, Any]:
    begun = time.monotonic()
    with BuiltIn(python, env) as server:
        until_ready = time.monotonic() - begun
        time.sleep(STILL)
        dormant = server.memory()
        taken = server.activate("key")
        time.sleep(STILL)
        return {
            "times": [taken],
            "kind": "native",
            "why": None,
            "until ready": until_ready,
            "dormant": dormant,
            "ready": server.memory(),
        }


def crash(proxy: Proxied) -> float:
    """Seconds from SIGKILL of the upstream to ready again, as a client sees it."""
    proxy.activate("key")
    before = proxy.details()["restarts"]
    begun = time.monotonic()
    proxy.kill()
    while True:
        details = proxy.details()
        if details["restarts"] > before and details["state"] == "ready":
            return time.monotonic() - begun
        time.sleep(POLL)


def table(release: str, found: dict[str, dict[str, Any]]) -> str:
    cold = statistics.median(found["cold"]["times"])
    lines = [f"\n{release}", ""]
    heads = ("", "kind", "until Ready, by cold", "POST to 200", "cold by that", "dormant", "ready")
    lines.append(f"| {' | '.join((*heads, 'crash'))} |")
    lines.append("|---|---|---|---|---|---|---|---|")
    for way, each in found.items():
        middle = statistics.median(each["times"])
        cells = [
            *(way, each["kind"], f"{each['until ready']:.1f} s, {each['until ready'] / cold:.2f}"),
            *(f"{middle:.3f} s", f"{cold / middle:.1f}"),
            *(f"{each[when] / MB:.0f} MB" for when in ("dormant", "ready")),
            f"{each['crash']:.3f} s" if "crash" in each else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
        if each["why"]:
            lines.append(f"{way}: {each['why']}")
    return "\n".join(lines)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
