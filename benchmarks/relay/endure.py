"""What only time or malice shows: memory over a million requests, and slow clients."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from typing import TYPE_CHECKING, Final

from benchmarks.relay import load

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.relay.contenders import Running

MILLION: Final = 1_000_000
ATTACKERS: Final = 2000
SETTLE: Final = 3.0  # seconds until most attackers are connected

# slowhttptest's modes: a head that drips, a body that drips, and a reader that hardly reads.
MODES: Final = {
    "slow head": ("-H", "-i", "2"),
    "slow body": ("-B", "-i", "2", "-s", "8192"),
    "slow reader": ("-X", "-w", "10", "-y", "20", "-n", "5", "-z", "32", "-k", "3"),
    "ranges": ("-R",),
}


def growth(running: Running, port: int, core: int) -> float:
    """Bytes that the proxy's memory grew by over a million requests, after as many as warm it."""
    rate = load.small(port, 32, 3, core).rate
    before = running.memory()
    load.small(port, 32, MILLION / rate, core)
    return running.memory() - before


@contextlib.contextmanager
def attack(mode: str, port: int, core: int) -> Iterator[None]:
    """2,000 slow clients for as long as the block runs."""
    if shutil.which("slowhttptest") is None:
        raise FileNotFoundError("slowhttptest is not on the PATH")
    command = ["taskset", "-c", str(core), "slowhttptest", "-c", str(ATTACKERS), "-r", "1000"]
    command += ["-l", "60", "-u", f"http://127.0.0.1:{port}/api/x", *MODES[mode]]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(SETTLE)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def under_attack(mode: str, port: int, core: int, seconds: float) -> float:
    """99th percentile of a normal client's latency, in seconds, while the attack runs."""
    with attack(mode, port, core):
        return load.small(port, 8, seconds, core).p99
