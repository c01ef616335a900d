"""The parts of the benchmark: each takes some measures of every proxy, in turns."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from benchmarks.relay import endure, load
from benchmarks.relay import slow as slowness
from benchmarks.relay.bench import OTHER, SMALL, Meter

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.relay.bench import Bench
    from benchmarks.relay.report import Measure

SIZE: Final = 100 * load.MIB
IDLE: Final = 2000
SETTLE: Final = 1.0  # seconds from a start, or the end of many connections, to the memory taken


def start(bench: Bench) -> None:
    seconds = bench.measure("start", "s", higher=False)
    memory = bench.measure("memory, idle", "MB", higher=False)

    def take(name: str) -> dict[Measure, float]:
        begin = time.monotonic()
        running, _ = bench.start(bench.chosen[name], SMALL)
        passed = time.monotonic() - begin
        with running:
            time.sleep(SETTLE)
            return {seconds: passed, memory: running.memory() / 1e6}

    bench.turns(take, seconds, memory, direct=False)


def idle(bench: Bench) -> None:
    memory = bench.measure(f"memory of each of {IDLE} idle WebSockets", "KiB", higher=False)
    before = bench.measure("small requests before them", "1/s", higher=True)
    beside = bench.measure("small requests beside them", "1/s", higher=True)
    cost_before = bench.measure("processor of one before them", "us", higher=False)
    cost_beside = bench.measure("processor of one beside them", "us", higher=False)
    fresh: dict[str, int] = {}  # what a proxy had before its first ones: it may keep what it got

    def take(name: str) -> dict[Measure, float]:
        port, running = bench.ports[OTHER][name], bench.processes[OTHER][name]
        rate, cost = _rate(bench, OTHER, name)
        empty = fresh.setdefault(name, running.memory())
        tunnels = load.Idle(port, IDLE)
        try:
            grown = running.memory() - empty
            rate_beside, cost_of_one = _rate(bench, OTHER, name)
        finally:
            tunnels.close()
            time.sleep(SETTLE)
        return {
            memory: grown / 1024 / IDLE,
            before: rate,
            beside: rate_beside,
            cost_before: cost,
            cost_beside: cost_of_one,
        }

    measures = (memory, before, beside, cost_before, cost_beside)
    bench.turns(take, *measures, tunnels=True, direct=False)


def _rate(bench: Bench, kind: str, name: str) -> tuple[float, float]:
    """Small requests per second, and microseconds of the proxy's processor for each."""
    with Meter(bench.processes[kind].get(name)) as meter:
        result = load.small(bench.ports[kind][name], 32, bench.seconds, bench.load_core)
    return result.rate, 1e6 * meter.used / result.total


def small(bench: Bench) -> None:
    for connections in (1, 32, 256):
        _small(bench, connections)


def _small(bench: Bench, connections: int) -> None:
    many = f"{connections} connection{'s' * (connections > 1)}"
    rate = bench.measure(f"small requests, {many}", "1/s", higher=True)
    p50 = bench.measure(f"median latency, {many}", "us", higher=False)
    p99 = bench.measure(f"99th percentile, {many}", "us", higher=False)
    cost = bench.measure(f"processor of a request, {many}", "us", higher=False)

    def take(name: str) -> dict[Measure, float]:
        with Meter(bench.processes[SMALL].get(name)) as meter:
            result = load.small(
                bench.ports[SMALL][name], connections, bench.seconds, bench.load_core
            )
        taken = {rate: result.rate, p50: result.p50 * 1e6, p99: result.p99 * 1e6}
        if name != "direct":
            taken[cost] = 1e6 * meter.used / result.total
        return taken

    bench.turns(take, rate, p50, p99)


def connections(bench: Bench) -> None:
    rate = bench.measure("a connection per request, 32 at a time", "1/s", higher=True)

    cost = bench.measure("processor of a connection", "us", higher=False)

    def take(name: str) -> dict[Measure, float]:
        port = bench.ports[SMALL][name]
        with Meter(bench.processes[SMALL].get(name)) as meter:
            result = load.small(port, 32, bench.seconds, bench.load_core, close=True)
        taken = {rate: result.rate}
        if name != "direct":
            taken[cost] = 1e6 * meter.used / result.total
        return taken

    bench.turns(take, rate)


def bulk(bench: Bench) -> None:
    down = bench.measure("100 MiB down", "MB/s", higher=True)
    up = bench.measure("100 MiB up", "MB/s", higher=True)

    def best(transfer: Callable[[int, int], float], name: str) -> float:
        return max(transfer(bench.ports[OTHER][name], SIZE) for _ in range(3)) / 1e6

    def take(name: str) -> dict[Measure, float]:
        return {down: best(load.download, name), up: best(load.upload, name)}

    bench.turns(take, down, up)


def websockets(bench: Bench) -> None:
    few = bench.measure("WebSocket echo, 32 connections", "1/s", higher=True)
    big = bench.measure("WebSocket echo of 1 MiB", "1/s", higher=True)

    def take(name: str) -> dict[Measure, float]:
        port = bench.ports[OTHER][name]
        return {
            few: asyncio.run(load.echo_small(port, 32, bench.seconds)),
            big: load.echo_large(port, load.MIB, bench.seconds),
        }

    bench.turns(take, few, big, tunnels=True)


def events(bench: Bench) -> None:
    rate = bench.measure("events to 100 clients", "1/s", higher=True)
    delay = bench.measure("events to 100 clients, p99 delay", "ms", higher=False)
    share = bench.measure("events to 100 clients, processor", "%", higher=False)

    def take(name: str) -> dict[Measure, float]:
        with Meter(bench.processes[OTHER].get(name)) as meter:
            arrived, p99 = asyncio.run(load.events(bench.ports[OTHER][name], 100, bench.seconds))
        taken = {rate: arrived, delay: p99 * 1e3}
        if name != "direct":
            taken[share] = 100 * meter.used / meter.passed
        return taken

    bench.turns(take, rate, delay, share)


def million(bench: Bench) -> None:
    """Of ours only: it is a bar, not a comparison, and takes a minute."""
    grown = bench.measure("memory grown by a million requests", "MB", higher=False)
    if "ours" in bench.chosen:
        running, port = bench.processes[SMALL]["ours"], bench.ports[SMALL]["ours"]
        grown.add("ours", endure.growth(running, port, bench.load_core) / 1e6)


def slow(bench: Bench) -> None:
    """A normal client before each attack, and during it; and what the attackers take."""
    quiet, beside, memory = (
        {
            mode: bench.measure(name.format(mode), unit, higher=False)
            for mode in slowness.MODES
            if slowness.MODES[mode].stays or unit == "us"
        }
        for name, unit in (
            ("99th percentile before {}", "us"),
            ("99th percentile beside {}", "us"),
            ("memory of each {}", "KiB"),
        )
    )

    def take(name: str) -> dict[Measure, float]:
        taken = {}
        for mode, how in slowness.MODES.items():
            # A fresh one: what a proxy has once taken for an attack it may keep.
            running, port = bench.start(bench.chosen[name], SMALL)
            with running:
                taken[quiet[mode]] = p99(port)
                empty = running.memory()
                with slowness.attack(how, port, bench.load_core):
                    if mode in memory:
                        grown = running.memory() - empty
                        taken[memory[mode]] = grown / 1024 / slowness.ATTACKERS
                    taken[beside[mode]] = p99(port)
        return taken

    def p99(port: int) -> float:
        return 1e6 * load.small(port, 8, bench.seconds, bench.load_core).p99

    bench.turns(take, *quiet.values(), *beside.values(), *memory.values(), direct=False)


# `start` and `idle` before what makes memory grow.
PARTS: Final = (start, idle, small, connections, bulk, websockets, events, million, slow)
