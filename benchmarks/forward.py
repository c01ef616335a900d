"""What `activation: forward` adds to an upstream's own deferred init.

    python -m benchmarks.forward [--rounds N] [--json FILE] [--check]

A small upstream that has one is posted to directly and through the proxy, in turns; each time it is
another process, and dormant.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.claiming import claim
from benchmarks.proxied import ROOT, BenchmarkError, Proxied

if TYPE_CHECKING:
    from collections.abc import Iterator

UPSTREAM = ROOT / "tests" / "upstreams" / "dormant.py"
KEY = "key"
BAR = 5.0  # milliseconds
PATIENCE = 20.0
STILL = 0.3  # seconds for the starts to be over
BODY = json.dumps({"session_api_keys": ["session-key"], "env": {"LLM_API_KEY": "none"}})


@contextmanager
def upstream(port: int = 0) -> Iterator[int]:
    """A dormant one; its port."""
    command = [sys.executable, str(UPSTREAM), "--port", str(port), "--key", KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def post(port: int) -> float:
    """Milliseconds that an init takes."""
    connect = functools.partial(http.client.HTTPConnection, "127.0.0.1", port, timeout=PATIENCE)
    return claim(connect, BODY, KEY) * 1000


def measured(rounds: int, bytecode: str) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"direct": [], "through the proxy": []}
    for _ in range(rounds):
        with upstream() as port:
            time.sleep(STILL)
            times["direct"].append(post(port))
        with upstream() as port:
            listen = {"address": "127.0.0.1:0", "admin": None}
            forward = {
                "url": f"http://127.0.0.1:{port}",
                "activation": "forward",
                "forward": {"key": KEY},
            }
            with Proxied(
                bytecode=bytecode, listen=listen, init={"key": KEY}, instead=forward
            ) as proxy:
                deadline = time.monotonic() + PATIENCE
                while proxy.ask("GET", "/ready") != 200:
                    if time.monotonic() > deadline:
                        raise BenchmarkError("the proxy does not find its upstream")
                    time.sleep(0.05)
                time.sleep(STILL)
                times["through the proxy"].append(post(proxy.port))
    return times


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forward", description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--check", action="store_true", help="exit with 1 when the bar is missed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forward-bytecode-") as bytecode:
        times = measured(arguments.rounds, bytecode)
    middle = {name: statistics.median(each) for name, each in times.items()}
    added = middle["through the proxy"] - middle["direct"]
    for name, each in times.items():
        spread = f"{min(each):.2f} to {max(each):.2f}, {len(each)} rounds"
        print(f"{name}: {middle[name]:.2f} ms  ({spread})")
    verdict = "met" if added <= BAR else "MISSED"
    print(f"added: {added:.2f} ms  (<= {BAR:g}: {verdict})")
    if arguments.json:
        arguments.json.write_text(json.dumps({"times": times, "added": added}, indent=2) + "\n")
    return 1 if arguments.check and added > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
