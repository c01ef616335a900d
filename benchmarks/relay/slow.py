"""Slow clients of every kind that slowhttptest knows, beside a normal one.

The attackers run only when nothing else wants their core (`SCHED_IDLE`): they stand for other
machines, and slowhttptest, which looks at all its connections again and again, would else keep the
normal client and the upstream waiting, which is no doing of the proxy.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.relay import contenders

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ATTACKERS: Final = 2000
SETTLE: Final = (
    2.0  # seconds in which what the buffers hold is sent: that is a burst, not an attack
)
_STAYING: Final = ("-c", str(ATTACKERS), "-r", "1000")  # connections, and how many a second
_ESTABLISHED: Final = "01"  # a state in /proc/net/tcp


class Mode(NamedTuple):
    """`stays`: the connections are all open until they are cut, else they come and go."""

    options: tuple[str, ...]
    path: str = "/api/x"
    stays: bool = True


# A head that drips, a body that drips, a reader that hardly reads, and heads of many ranges.
MODES: Final = {
    "slow head": Mode((*_STAYING, "-H", "-i", "2")),
    "slow body": Mode((*_STAYING, "-B", "-i", "2", "-s", "8192"), "/api/drop"),
    "slow reader": Mode(
        (*_STAYING, "-X", "-w", "10", "-y", "20", "-n", "2", "-z", "32", "-k", "3"), "/api/big"
    ),
    "ranges": Mode(("-c", str(ATTACKERS), "-r", "250", "-R"), stays=False),
}


def connected(port: int) -> int:
    """Connections that clients have to that port."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    fields = (line.split(None, 4) for line in lines)
    return sum(f[3] == _ESTABLISHED and int(f[1].rpartition(":")[2], 16) == port for f in fields)


@contextlib.contextmanager
def attack(mode: Mode, port: int, core: int) -> Iterator[None]:
    """Slow clients for as long as the block runs; those that stay are all connected by then.

    Raises `TimeoutError` if they do not come, `ConnectionError` if half of them have gone again.
    """
    if shutil.which("slowhttptest") is None:
        raise FileNotFoundError("slowhttptest is not on the PATH")
    least = 'echo 19 >/proc/self/autogroup; exec chrt --idle 0 taskset -c "$0" "$@"'
    pinned = ("sh", "-c", least, str(core))
    target = ("-l", "60", "-u", f"http://127.0.0.1:{port}{mode.path}")
    process = subprocess.Popen(
        [*pinned, "slowhttptest", *mode.options, *target],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        if mode.stays:
            _wait_for(lambda: connected(port) >= ATTACKERS, "connect")
        time.sleep(SETTLE)
        yield
        if mode.stays and connected(port) < ATTACKERS / 2:
            raise ConnectionError(f"only {connected(port)} slow clients were left")
    finally:
        process.kill()
        process.wait()
        _wait_for(lambda: not connected(port), "be gone")


def _wait_for(condition: Callable[[], bool], what: str) -> None:
    # To count them takes some of the core that they share.
    contenders.wait_for(condition, f"slow clients to {what}", every=0.2)
