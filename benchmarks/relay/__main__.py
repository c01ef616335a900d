"""The relay beside nginx, HAProxy, Envoy, Caddy and a plain aiohttp proxy.

    python -m benchmarks.relay [--rounds 3] [--seconds 2] [--only ours,nginx] [--measures small]
                               [--json FILE] [--svg FILE] [--check]

All proxies run at once on one core, idle except for the one that is measured; the upstream and the
load share another (with four cores, each has its own). In every round all take their turn, so that
a disturbance meets all alike; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import os
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.relay import contenders, endure, load
from benchmarks.relay.contenders import CONTENDERS, Contender, Running
from benchmarks.relay.report import BARS, Measure, as_json, chart, table

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 100 * load.MIB
IDLE = 2000

UPSTREAM = """worker_processes 1; daemon off; pid {dir}/up.pid; error_log /dev/null;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json;
      return 200 '{{"status":"ok","message":"hello from the upstream"}}'; }} }} }}
"""


def free_port() -> int:
    """A port that was free; the programs compared cannot be given a socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Bench:
    """Everything that runs, and the measures taken of it."""

    def __init__(
        self, options: argparse.Namespace, directory: Path, stack: contextlib.ExitStack
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core = cores[-1]
        self.load_core = cores[0]
        self.upstream_core = cores[1] if len(cores) >= 4 else cores[0]
        os.sched_setaffinity(0, {self.load_core})
        self.seconds = options.seconds
        self.rounds = options.rounds
        self.measures: dict[str, Measure] = {}
        self.small: dict[str, int] = {}  # ports
        self.other: dict[str, int] = {}
        self.processes: dict[str, Running] = {}
        self.tunnels: dict[str, bool] = {"direct": True}
        self.directory = directory
        for ports, kind in ((self.small, "small"), (self.other, "other")):
            ports["direct"] = port = free_port()
            stack.enter_context(Running(self._upstream(kind, port), self.upstream_core))
            contenders.wait_for(functools.partial(contenders.answers, port), "the upstream")
        chosen = [c for c in CONTENDERS if not options.only or c.name in options.only.split(",")]
        for contender in chosen:
            self._start(contender, stack)

    def _upstream(self, kind: str, port: int) -> list[str]:
        """The command of an upstream: nginx for small requests, if there is one."""
        if kind != "small" or shutil.which("nginx") is None:
            mark = contenders.MARK.decode()
            return [sys.executable, "-m", "benchmarks.relay.upstream", str(port), mark]
        own = self.directory / f"{contenders.MARK.decode()}-{port}"
        own.mkdir()
        config = own / "nginx.conf"
        config.write_text(UPSTREAM.format(dir=own, port=port))
        return ["nginx", "-p", str(own), "-c", str(config)]

    def _start(self, contender: Contender, stack: contextlib.ExitStack) -> None:
        why = contenders.missing(contender)
        if why is not None:
            self.measure("start", "s", higher=False).faults[contender.name] = why
            return
        for kind, ports in (("small", self.small), ("other", self.other)):
            own = self.directory / f"{contender.name}-{kind}"
            own.mkdir()
            port, up = free_port(), ports["direct"]
            command: list[str] = []
            if contender.supervises:
                up = free_port()
                pinned = ["taskset", "-c", str(self.upstream_core)]
                command = [*pinned, *self._upstream(kind, up)]
            begin = time.monotonic()
            running = contenders.start(
                contender, own, port=port, up=up, command=command, core=self.proxy_core
            )
            stack.enter_context(running)
            ports[contender.name] = port
            self.measure("start", "s", higher=False).add(contender.name, time.monotonic() - begin)
            memory = self.measure("memory, idle", "MB", higher=False)
            memory.add(contender.name, running.memory() / 1e6)
            self.processes[f"{contender.name}-{kind}"] = running
        self.tunnels[contender.name] = contender.tunnels

    def measure(self, name: str, unit: str, *, higher: bool) -> Measure:
        return self.measures.setdefault(name, Measure(name, unit, higher))

    @property
    def names(self) -> list[str]:
        return list(self.small)

    def turns(
        self, take: Callable[[str], dict[Measure, float]], *measures: Measure, tunnels: bool = False
    ) -> None:
        """`take(contender)` in every round; what fails is noted, and not tried again."""
        failed: dict[str, str] = {}
        if tunnels:
            failed = {
                n: "relays no upgrade by itself" for n, can in self.tunnels.items() if not can
            }
        for number in range(self.rounds):
            shift = number % len(self.names)
            for name in self.names[shift:] + self.names[:shift]:
                if name in failed:
                    continue
                try:
                    taken = take(name)
                except (OSError, subprocess.SubprocessError) as error:
                    failed[name] = str(error) or type(error).__name__
                    continue
                for measure, value in taken.items():
                    measure.add(name, value)
        for measure in measures:
            measure.faults |= failed

    def run_small(self) -> None:
        for connections in (1, 32, 256):
            many = f"{connections} connection{'s' * (connections > 1)}"
            rate = self.measure(f"small requests, {many}", "1/s", higher=True)
            p50 = self.measure(f"median latency, {many}", "us", higher=False)
            p99 = self.measure(f"99th percentile, {many}", "us", higher=False)

            def take(name: str) -> dict[Measure, float]:
                port = self.small[name]
                result = load.small(port, connections, self.seconds, self.load_core)  # noqa: B023
                return {rate: result.rate, p50: result.p50 * 1e6, p99: result.p99 * 1e6}  # noqa: B023

            self.turns(take, rate, p50, p99)

    def run_connections(self) -> None:
        rate = self.measure("a connection per request, 32 at a time", "1/s", higher=True)

        def take(name: str) -> dict[Measure, float]:
            port = self.small[name]
            return {rate: load.small(port, 32, self.seconds, self.load_core, close=True).rate}

        self.turns(take, rate)

    def run_bulk(self) -> None:
        down = self.measure("100 MiB down", "MB/s", higher=True)
        up = self.measure("100 MiB up", "MB/s", higher=True)

        def take(name: str) -> dict[Measure, float]:
            port = self.other[name]
            best = [
                max(transfer(port, SIZE) for _ in range(3)) / 1e6
                for transfer in (load.download, load.upload)
            ]
            return {down: best[0], up: best[1]}

        self.turns(take, down, up)

    def run_websockets(self) -> None:
        few = self.measure("WebSocket echo, 32 connections", "1/s", higher=True)
        big = self.measure("WebSocket echo of 1 MiB", "1/s", higher=True)

        def take(name: str) -> dict[Measure, float]:
            port = self.other[name]
            return {
                few: asyncio.run(load.echo_small(port, 32, self.seconds)),
                big: load.echo_large(port, load.MIB, self.seconds),
            }

        self.turns(take, few, big, tunnels=True)

    def run_events(self) -> None:
        delay = self.measure("events to 100 clients, p99 delay", "ms", higher=False)
        share = self.measure("events to 100 clients, processor", "%", higher=False)

        def take(name: str) -> dict[Measure, float]:
            running = self.processes.get(f"{name}-other")
            before = running.processor_seconds() if running else 0
            begin = time.monotonic()
            _, p99 = asyncio.run(load.events(self.other[name], 100, self.seconds))
            if running is None:
                return {delay: p99 * 1e3}
            used = running.processor_seconds() - before
            return {delay: p99 * 1e3, share: 100 * used / (time.monotonic() - begin)}

        self.turns(take, delay, share)

    def run_idle(self) -> None:
        memory = self.measure(f"memory of each of {IDLE} idle tunnels", "KiB", higher=False)
        beside = self.measure("small requests beside them", "1/s", higher=True)
        before = self.measure("small requests before them", "1/s", higher=True)
        for name in self.names:
            running = self.processes.get(f"{name}-other")
            if running is None or not self.tunnels[name]:
                continue
            port = self.other[name]
            before.add(name, load.small(port, 32, self.seconds, self.load_core).rate)
            empty = running.memory()
            try:
                idle = load.Idle(port, IDLE)
            except OSError as error:
                memory.faults[name] = str(error)
                continue
            memory.add(name, (running.memory() - empty) / 1024 / IDLE)
            beside.add(name, load.small(port, 32, self.seconds, self.load_core).rate)
            idle.close()

    def run_million(self) -> None:
        grown = self.measure("memory grown by a million requests", "MB", higher=False)
        for name in self.names:
            running = self.processes.get(f"{name}-small")
            if name == "ours" and running is not None:
                port = self.small[name]
                grown.add(name, endure.growth(running, port, self.load_core) / 1e6)

    def run_slow(self) -> None:
        quiet = self.measure("99th percentile, 8 connections", "us", higher=False)
        modes = {
            mode: self.measure(f"the same beside 2000 clients: {mode}", "us", higher=False)
            for mode in endure.MODES
        }

        def take(name: str) -> dict[Measure, float]:
            port = self.small[name]
            taken = {quiet: load.small(port, 8, self.seconds, self.load_core).p99 * 1e6}
            for mode, measure in modes.items():
                p99 = endure.under_attack(mode, port, self.load_core, self.seconds)
                taken[measure] = p99 * 1e6
            return taken

        self.turns(take, quiet, *modes.values())


PARTS = ("idle", "small", "connections", "bulk", "websockets", "events", "million", "slow")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--only", help="names of proxies, by commas")
    parser.add_argument("--measures", default=",".join(PARTS), help="by commas")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--svg", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 when a bar is missed")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(options, directory, stack)
        for part in options.measures.split(","):
            print(f"{part} …", file=sys.stderr)
            getattr(bench, f"run_{part}")()
    measures = list(bench.measures.values())
    print(table(measures, bench.names))
    verdicts = [bar.judge(bench.measures) for bar in BARS]
    print("\n".join(verdicts))
    setup: dict[str, object] = {"rounds": bench.rounds, "seconds": bench.seconds}
    if options.json:
        options.json.write_text(as_json(measures, setup))
    if options.svg and "small requests, 32 connections" in bench.measures:
        names = [name for name in bench.names if name != "direct"]
        chart(bench.measures["small requests, 32 connections"], names, options.svg)
    return int(options.check and any(verdict.startswith("MISSED") for verdict in verdicts))


if __name__ == "__main__":
    sys.exit(main())
