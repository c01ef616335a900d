"""What a thousand watchers and a thousand held requests cost an activation.

    python -m benchmarks.watching [--rounds N] [--watchers N] [--held N] [--json FILE] [--check]

Rounds alone, with one watcher and with the whole crowd take turns, so that a machine that gets
slower is slower for all.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.proxied import ROOT, BenchmarkError, Proxied

UPSTREAM = Path(__file__).with_name("upstream.py")

DELAY = 0.2  # seconds from the upstream's start to ready: about a warm start of a real one
LONGER = 1.10  # times as long as alone
HEARS = 5.0  # milliseconds after the state change
LAST_WORDS = 100.0  # seconds for the crowd to tell what it has heard


class Heard(NamedTuple):
    """Seconds since the state has changed until it was there, and until it was read."""

    kind: str
    arrived: float
    read: float


class Round:
    """One activation with so many watchers and held requests; `took` in seconds."""

    def __init__(self, watchers: int, held: int, bytecode: str) -> None:
        settings: dict[str, Any] = {
            "listen": {"address": "127.0.0.1:0", "admin": None},
            "init": {"allow_without_key": True},
            "gate": {"hold": LAST_WORDS},
        }
        with Proxied("--delay", str(DELAY), upstream=UPSTREAM, bytecode=bytecode, **settings) as p:
            crowd = _gather(p.port, watchers, held) if watchers + held else None
            begun = time.monotonic()
            p.init()
            self.took = time.monotonic() - begun
            # The clock of the kernel's stamps; nothing has changed since it was ready.
            since = p.get("/api/init?details=true")["since"]
            told = _told(crowd) if crowd is not None else []
        self.heard = [Heard(kind, at - since, read - since) for kind, at, read in told]
        if len(self.heard) != watchers + held:
            raise BenchmarkError(f"{len(self.heard)} of {watchers + held} have heard")


def _gather(port: int, watchers: int, held: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "benchmarks.watching.crowd"]
    crowd = subprocess.Popen(
        [*command, str(port), str(watchers), str(held)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert crowd.stdout is not None
    if crowd.stdout.readline() != "waiting\n":
        crowd.kill()
        crowd.wait()
        crowd.stdout.close()
        raise BenchmarkError("the crowd did not begin to wait")
    return crowd


def _told(crowd: subprocess.Popen[str]) -> list[tuple[str, float, float]]:
    try:
        output, _ = crowd.communicate(timeout=LAST_WORDS)
    except subprocess.TimeoutExpired:
        crowd.kill()
        crowd.wait()
        raise BenchmarkError(f"the crowd has not heard within {LAST_WORDS:g} s") from None
    if crowd.returncode != 0:
        raise BenchmarkError("somebody of the crowd was told what is not right")
    return [(kind, arrived, read) for kind, arrived, read in json.loads(output)]


# The report


def measure(rounds: int, watchers: int, held: int) -> dict[str, Any]:
    alone: list[Round] = []
    one: list[Round] = []
    crowd: list[Round] = []
    with tempfile.TemporaryDirectory() as bytecode:
        Round(0, 0, bytecode)  # compiles what the others load
        for _ in range(rounds):
            alone.append(Round(0, 0, bytecode))
            one.append(Round(1, 0, bytecode))
            crowd.append(Round(watchers, held, bytecode))
    return {
        "rounds": rounds,
        "watchers": watchers,
        "held": held,
        "activation_ms": {
            "alone": _milliseconds([each.took for each in alone]),
            "crowd": _milliseconds([each.took for each in crowd]),
        },
        "ratio": round(
            _middle([each.took for each in crowd]) / _middle([e.took for e in alone]), 3
        ),
        "one_hears_ms": _milliseconds([each.heard[0].arrived for each in one]),
        "crowd_ms": {
            name: _milliseconds([_quantile(each, kinds, share) for each in crowd])
            for name, kinds, share in (
                ("first watcher", ("poll", "stream"), 0.0),
                ("median watcher", ("poll", "stream"), 0.5),
                ("last watcher", ("poll", "stream"), 1.0),
                ("last held request", ("held",), 1.0),
            )
        },
        "load_late_ms": _milliseconds(
            [statistics.median(h.read - h.arrived for h in each.heard) for each in crowd]
        ),
    }


_middle = statistics.median


def _quantile(each: Round, kinds: tuple[str, ...], share: float) -> float:
    times = sorted(heard.arrived for heard in each.heard if heard.kind in kinds)
    return times[round(share * (len(times) - 1))] if times else 0.0


def _milliseconds(seconds: list[float]) -> dict[str, float]:
    """The median of the rounds, and their range."""
    values = {"median": _middle(seconds), "least": min(seconds), "most": max(seconds)}
    return {name: round(value * 1000, 2) for name, value in values.items()}


def _print(found: dict[str, Any]) -> None:
    crowd = f"{found['watchers']} watchers, {found['held']} held"
    rows = [
        ("activation alone", found["activation_ms"]["alone"], ""),
        (f"activation, {crowd}", found["activation_ms"]["crowd"], ""),
        ("one watcher hears", found["one_hears_ms"], f"<= {HEARS:g}"),
        *((f"{name} of the crowd hears", row, "") for name, row in found["crowd_ms"].items()),
        ("the crowd reads later than it hears", found["load_late_ms"], ""),
    ]
    print(f"milliseconds, median (range) of {found['rounds']} rounds in turns")
    for name, row, bar in rows:
        spread = f"({row['least']:.1f} to {row['most']:.1f})"
        print(f"{name:<42} {row['median']:8.1f}  {spread:<20} {bar}")
    ratio = "activation with the crowd : alone"
    print(f"{ratio:<42} {found['ratio']:8.2f}  {'':<20} <= {LONGER:g}")


def main() -> int:
    parser = argparse.ArgumentParser(description="What those who wait cost an activation.")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--watchers", type=int, default=1000)
    parser.add_argument("--held", type=int, default=1000)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="a missed bar is exit code 1")
    args = parser.parse_args()
    found = measure(args.rounds, args.watchers, args.held)
    _print(found)
    if args.json:
        args.json.write_text(json.dumps(found, indent=2))
    missed = found["ratio"] > LONGER or found["one_hears_ms"]["median"] > HEARS
    return int(args.check and missed)


if __name__ == "__main__":
    sys.exit(main())
