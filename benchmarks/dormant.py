"""What a dormant pod costs, and what the proxy adds to an activation.

    python -m benchmarks.dormant [--runs N] [--rest SECONDS] [--json FILE] [--check]

Every number is taken from outside: `/proc`, a clock, and a plain HTTP client.
"""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peak import Peak
from benchmarks.proc import UnmeasuredError, processor_time, proportional, resident
from benchmarks.proxied import BenchmarkError, Proxied

if TYPE_CHECKING:
    import http.client
    from collections.abc import Callable

MB = 1_000_000
TRANSFER = 100 * MB  # bytes, each way
SETTLE = 1.0  # seconds after the boot until a pod counts as at rest
FAMILY = ("proxy", "launcher")  # the processes of a dormant pod, parents first
SAMPLE = 0.002  # seconds between two looks at the resident memory
READ_PAUSE = 0.5  # seconds in which a proxy without backpressure would swallow the download
DELAY = (
    0.2  # seconds until the upstream is ready, and up to as much again, so that no probe is aimed
)


@dataclass
class Row:
    name: str
    value: float | None  # None: not measured, `note` says why
    unit: str
    bar: float | None = None  # None: no promise, for information
    note: str = ""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        if self.bar is None:
            return ""
        return "ok" if self.value <= self.bar else "MISSED"


def boots(runs: int, bytecode: str) -> list[Row]:
    """From before `fork` to the first 200 on `/health`."""
    rows = []
    with Proxied(bytecode=bytecode):
        pass  # compiles, and fills the page cache
    for name, bar, where in (
        ("boot to 200 on /health", 0.8, bytecode),
        ("  without compiled modules", None, None),
    ):
        times = []
        for _ in range(runs):
            with Proxied(bytecode=where) as proxy:
                times.append(proxy.boot)
        rows.append(Row(name, statistics.median(times), "s", bar, _spread(times, "s")))
    return rows


def activations(runs: int, bytecode: str) -> list[Row]:
    """From the moment in which the upstream is ready to the end of the poster's answer."""
    rows = []
    for what, way in (("begins to listen", "listening"), ("answers 200", "answer")):
        times = []
        for _ in range(runs):
            # Another phase of the probe's interval every time.
            delay = str(DELAY * (1 + random.random()))
            with Proxied("--delay", delay, "--ready-by", way, bytecode=bytecode) as proxy:
                proxy.init()
                times.append((time.monotonic() - float(proxy.stamp.read_text())) * 1000)
        name = f"upstream {what}, to 200 on POST"
        rows.append(Row(name, statistics.median(times), "ms", 20, _spread(times, "ms")))
    return rows


def _spread(values: list[float], unit: str) -> str:
    return f"median of {len(values)}, from {min(values):.3g} to {max(values):.3g} {unit}"


def dormant(rest: float, bytecode: str) -> list[Row]:
    """Memory and processor time of a pod that waits."""
    with Proxied(bytecode=bytecode) as proxy:
        deadline = time.monotonic() + 10
        while len(proxy.family()) < len(FAMILY):
            if time.monotonic() > deadline:
                raise BenchmarkError("a dormant proxy has no launcher after 10 s")
            time.sleep(0.05)
        time.sleep(SETTLE)
        pids = [member.pid for member in proxy.family()]
        note = f"Pss of {len(pids)} processes, no preload"
        rows = [attempt(Row("memory, dormant", None, "MB", 60, note), _total, proportional, pids)]
        rows += [
            attempt(Row(f"  of it the {who}", None, "MB"), _total, proportional, [pid])
            for who, pid in zip(FAMILY, pids, strict=True)
        ]
        note = "RSS: as if the processes shared nothing"
        rows.append(
            attempt(Row("memory, upper bound", None, "MB", None, note), _total, resident, pids)
        )
        note = f"over {rest:g} s, nobody probing"
        rows.append(
            attempt(Row("processor at rest", None, "% of a core", 0.4, note), _rest, pids, rest)
        )
    return rows


def attempt(row: Row, measure: Callable[..., float], *arguments: Any) -> Row:
    """`row` with the value that `measure(*arguments)` returns, or why there is none."""
    try:
        row.value = measure(*arguments)
    except UnmeasuredError as error:
        row.note = str(error)
    return row


def _total(measure: Callable[[int], int], pids: list[int]) -> float:
    return sum(measure(pid) for pid in pids) / MB


def _rest(pids: list[int], window: float) -> float:
    before, begun = sum(processor_time(pid) for pid in pids), time.monotonic()
    time.sleep(window)
    used = sum(processor_time(pid) for pid in pids) - before
    return 100 * used / (time.monotonic() - begun)


def transfers(bytecode: str) -> list[Row]:
    """Growth of the proxy's resident memory while 100 MB pass, with the reader asleep at first."""
    rows = []
    for name, transfer in (("down", _download), ("up", _upload)):
        # A proxy each, so that neither way uses memory that the other has grown already.
        with Proxied(bytecode=bytecode) as proxy:
            proxy.init()
            look = functools.partial(resident, proxy.pid)
            with proxy.connection() as client, Peak(look, SAMPLE) as peak:
                begun = time.monotonic()
                transfer(client)
                seconds = time.monotonic() - begun
        rate = TRANSFER / MB / (seconds - READ_PAUSE)
        note = f"{rate:.0f} MB/s, the {READ_PAUSE} s of a reader asleep left out"
        growth = (peak.largest - peak.first) / MB
        rows.append(Row(f"growth over {TRANSFER // MB} MB {name}", growth, "MB", 10, note))
    return rows


def _download(client: http.client.HTTPConnection) -> None:
    client.request("GET", f"/down?bytes={TRANSFER}")
    answer = client.getresponse()
    time.sleep(READ_PAUSE)
    received = 0
    while chunk := answer.read1(2**20):
        received += len(chunk)
    if received != TRANSFER:
        raise BenchmarkError(f"{received} of {TRANSFER} bytes came down")


def _upload(client: http.client.HTTPConnection) -> None:
    chunk = bytes(64 * 1024)
    client.putrequest("POST", "/up")
    client.putheader("Content-Length", str(TRANSFER))
    client.endheaders()
    for start in range(0, TRANSFER, len(chunk)):
        client.send(chunk[: min(len(chunk), TRANSFER - start)])
    received = int(client.getresponse().read())
    if received != TRANSFER:
        raise BenchmarkError(f"{received} of {TRANSFER} bytes went up")


def show(rows: list[Row]) -> None:
    width = max(len(row.name) for row in rows)
    for row in rows:
        value = "-" if row.value is None else f"{row.value:.3g}"
        bar = "" if row.bar is None else f"<= {row.bar:g}"
        print(
            f"{row.name:<{width}}  {value:>6} {row.unit:<11}  {bar:<7} {row.verdict:<12} {row.note}"
        )


def machine() -> dict[str, str | int | None]:
    return {
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        **{name: importlib.metadata.version(name) for name in ("aiohttp", "pydantic", "uvloop")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.dormant")
    parser.add_argument(
        "--runs", type=int, default=10, help="boots and activations of each kind (10)"
    )
    parser.add_argument("--rest", type=float, default=10.0, help="seconds at rest (10)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers there, too")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    arguments = parser.parse_args()
    about = machine()
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    try:
        with tempfile.TemporaryDirectory(prefix="dormant-bytecode-") as bytecode:
            rows = boots(arguments.runs, bytecode)
            rows += activations(arguments.runs, bytecode)
            rows += dormant(arguments.rest, bytecode)
            rows += transfers(bytecode)
    except BenchmarkError as error:
        print(f"cannot measure: {error}", file=sys.stderr)
        return 1
    show(rows)
    if arguments.json:
        report = {
            "machine": about,
            "rows": [asdict(row) | {"verdict": row.verdict} for row in rows],
        }
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    return 1 if arguments.check and any(row.verdict == "MISSED" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
