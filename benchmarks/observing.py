"""What it costs the relay to be observed: metrics, and the access log.

    python -m benchmarks.observing [--rounds N] [--seconds S] [--connections N] [--json FILE]
                                   [--check]

One proxy of each kind runs on the same core, idle except for the one whose turn it is; the load and
the upstream share another. Turns are short and change their order, and the ratios are taken
within a round, so that a machine that changes its speed does so for all.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import os
import statistics
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.proc import processor_time
from benchmarks.relay import contenders, load
from benchmarks.relay.bench import UPSTREAM, free_port

SETTINGS = """deferred_init: false
listen: {{address: "127.0.0.1:{port}", admin: {admin}}}
init: {{allow_without_key: true}}
upstream:
  url: http://127.0.0.1:{up}
  command: {command}
  profile: none
  ready: {{path: /}}
log: {{level: warning, access: "{access}"}}
"""
# Kind -> whether there is an admin listener, and the access log.
KINDS = {
    "off": (False, "off"),
    "metrics": (True, "off"),
    "access log, errors": (False, "errors"),
    "access log, all": (False, "all"),
}
BAR = 0.97  # requests per second with metrics, as a share of those without


@dataclass
class Kind:
    port: int
    pid: int
    rates: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)  # seconds of processor per request


class Bench:
    def __init__(self, directory: Path, stack: contextlib.ExitStack) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.load_core, self.proxy_core = cores[0], cores[-1]
        self.directory = directory
        self.kinds = {name: self._start(name, stack) for name in KINDS}

    def _start(self, name: str, stack: contextlib.ExitStack) -> Kind:
        admin, access = KINDS[name]
        own = self.directory / str(len(name))
        own.mkdir()
        port, up = free_port(), free_port()
        nginx = own / "nginx.conf"
        nginx.write_text(UPSTREAM.format(dir=own, port=up))
        upstream = ["taskset", "-c", str(self.load_core), "nginx", "-p", str(own), "-c", str(nginx)]
        config = own / "proxy.yaml"
        config.write_text(
            SETTINGS.format(
                port=port,
                up=up,
                command=json.dumps(upstream),
                admin=json.dumps(f"unix:{own}/admin.sock") if admin else "null",
                access=access,
            )
        )
        serve = [sys.executable, "-m", "proxy", "serve", "--config", str(config)]
        # The log goes to a file, as a pod's does: what it costs to write is part of its cost.
        logged = ["sh", "-c", 'exec "$@" 2>"$0"', str(own / "log"), *serve]
        running = stack.enter_context(contenders.Running(logged, self.proxy_core))
        contenders.wait_for(functools.partial(contenders.answers, port), f"the proxy ({name})")
        return Kind(port, running.process.pid)

    def turn(self, kind: Kind, connections: int, seconds: float) -> None:
        before = processor_time(kind.pid)
        rate = load.small(kind.port, connections, seconds, self.load_core).rate
        kind.rates.append(rate)
        kind.costs.append((processor_time(kind.pid) - before) / (rate * seconds))

    def run(self, rounds: int, connections: int, seconds: float) -> None:
        kinds = list(self.kinds.values())
        for number in range(rounds):
            for kind in kinds if number % 2 else reversed(kinds):
                self.turn(kind, connections, seconds)


def ratio(mine: list[float], theirs: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=True))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 when the bar is missed")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(directory, stack)
        bench.run(options.rounds, options.connections, options.seconds)
    off = bench.kinds["off"]
    results = []
    print(f"{'':20}{'requests/s':>12}{'x off':>8}{'us of processor each':>22}{'x off':>8}")
    for name, kind in bench.kinds.items():
        rate, cost = statistics.median(kind.rates), statistics.median(kind.costs)
        ratios = ratio(kind.rates, off.rates), ratio(kind.costs, off.costs)
        print(f"{name:20}{rate:12,.0f}{ratios[0]:8.3f}{cost * 1e6:22.2f}{ratios[1]:8.3f}")
        results.append(
            {"name": name, "rates": kind.rates, "processor_seconds": kind.costs,
             "rate_ratio": ratios[0], "processor_ratio": ratios[1]}
        )  # fmt: skip
    met = ratio(bench.kinds["metrics"].rates, off.rates)
    print(f"{'ok' if met >= BAR else 'MISSED'}: with metrics {met:.3f} x off (>= {BAR:g})")
    if options.json:
        options.json.write_text(json.dumps(results, indent=2))
    return int(options.check and met < BAR)


if __name__ == "__main__":
    sys.exit(main())
