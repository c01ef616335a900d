"""What runs in a benchmark, who takes which turn, and what is noted of it."""

from __future__ import annotations

import functools
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from benchmarks.relay import contenders
from benchmarks.relay.contenders import CONTENDERS, Contender, Running
from benchmarks.relay.report import Measure

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Callable

SMALL: Final = "small"  # before an nginx that answers at once
OTHER: Final = "other"  # before `upstream.py`

STOLEN: Final = 0.02  # of the processor time: more of it disturbs a sample
TRIES: Final = 3

BIG: Final = 131_072  # bytes of an answer for slow readers

# `/api/drop` answers when it has the body: nginx does not pass on half a request.
UPSTREAM: Final = """worker_processes 1; daemon off; pid {dir}/up.pid; error_log /dev/null;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000;
  server {{ listen 127.0.0.1:{port} backlog=4096;
    location / {{ default_type application/json;
      return 200 '{{"status":"ok","message":"hello from the upstream"}}'; }}
    location /api/drop {{ proxy_pass http://127.0.0.1:{port}/api/x; }}
    location /api/big {{ alias {dir}/big; }} }} }}
"""


def free_port() -> int:
    """A port that was free; the programs compared cannot be given a socket."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Bench:
    """Two upstreams, and each proxy twice: before the one and the other.

    `ports[kind][name]` is where to ask; the name "direct" means the upstream itself.
    """

    def __init__(
        self,
        directory: Path,
        stack: contextlib.ExitStack,
        *,
        only: set[str],
        rounds: int,
        seconds: float,
    ) -> None:
        cores = sorted(os.sched_getaffinity(0))
        self.proxy_core = cores[-1]
        self.load_core = cores[0]
        self.upstream_core = cores[1] if len(cores) >= 4 else cores[0]
        os.sched_setaffinity(0, {self.load_core})
        self.seconds = seconds
        self.rounds = rounds
        self.measures: dict[str, Measure] = {}
        self.disturbed = 0  # samples, by other guests of the host
        self.stolen = 0.0  # the most of a sample that is counted
        self.ports: dict[str, dict[str, int]] = {SMALL: {}, OTHER: {}}
        self.processes: dict[str, dict[str, Running]] = {SMALL: {}, OTHER: {}}
        self.chosen: dict[str, Contender] = {}
        directory.chmod(0o755)  # workers of nginx are not root
        self._directory = directory
        self._started = 0
        for kind, ports in self.ports.items():
            ports["direct"] = port = free_port()
            stack.enter_context(Running(self._upstream(kind, port), self.upstream_core))
            contenders.wait_for(functools.partial(contenders.answers, port), "the upstream")
        for contender in CONTENDERS:
            if only and contender.name not in only:
                continue
            why = contenders.missing(contender) or self._include(contender, stack)
            if why is not None:
                self.measure("start", "s", higher=False).faults[contender.name] = why

    def _include(self, contender: Contender, stack: contextlib.ExitStack) -> str | None:
        """Start it before both upstreams; why not, when it cannot be."""
        for kind in self.ports:
            try:
                running, port = self.start(contender, kind)
            except OSError as error:
                return f"did not start: {error}"
            self.processes[kind][contender.name] = stack.enter_context(running)
            self.ports[kind][contender.name] = port
        self.chosen[contender.name] = contender
        return None

    def _upstream(self, kind: str, port: int) -> list[str]:
        """The command of an upstream: nginx for small requests, if there is one."""
        if kind != SMALL or shutil.which("nginx") is None:
            mark = contenders.MARK.decode()
            return [sys.executable, "-m", "benchmarks.relay.upstream", str(port), mark]
        own = self._directory / f"{contenders.MARK.decode()}-{port}"
        own.mkdir()
        (own / "big").write_bytes(bytes(BIG))
        config = own / "nginx.conf"
        config.write_text(UPSTREAM.format(dir=own, port=port))
        return ["nginx", "-p", str(own), "-c", str(config)]

    def start(self, contender: Contender, kind: str) -> tuple[Running, int]:
        """One more of that proxy, once it relays; and its port."""
        self._started += 1
        own = self._directory / f"{contender.name}-{kind}-{self._started}"
        own.mkdir()
        port, up = free_port(), self.ports[kind]["direct"]
        command: list[str] = []
        if contender.supervises:
            up = free_port()
            pinned = ["taskset", "-c", str(self.upstream_core)]
            command = [*pinned, *self._upstream(kind, up)]
        running = contenders.start(
            contender, own, port=port, up=up, command=command, core=self.proxy_core
        )
        return running, port

    def measure(self, name: str, unit: str, *, higher: bool) -> Measure:
        return self.measures.setdefault(name, Measure(name, unit, higher))

    def turns(
        self,
        take: Callable[[str], dict[Measure, float]],
        *measures: Measure,
        tunnels: bool = False,
        direct: bool = True,
    ) -> None:
        """`take(name)` in every round; what fails is noted, and not tried again.

        The turn changes from round to round, so that nobody is always behind the same neighbour.
        """
        failed = {
            name: "relays no upgrade by itself"
            for name, contender in self.chosen.items()
            if tunnels and not contender.tunnels
        }
        names = [*(["direct"] if direct else []), *self.chosen]
        for number in range(self.rounds):
            shift = number % len(names)
            for name in names[shift:] + names[:shift]:
                if name in failed:
                    continue
                try:
                    taken = self._undisturbed(take, name)
                except (OSError, subprocess.SubprocessError) as error:
                    failed[name] = str(error) or type(error).__name__
                    continue
                for measure, value in taken.items():
                    measure.add(name, value)
        for measure in measures:
            measure.faults |= failed

    def _undisturbed(
        self, take: Callable[[str], dict[Measure, float]], name: str
    ) -> dict[Measure, float]:
        """What was taken while other guests of the host took next to nothing of our cores.

        Tried a few times, else the one of which the least was taken; all are counted.
        """
        best: tuple[float, dict[Measure, float]] = (1.0, {})
        for _ in range(TRIES):
            with Stolen() as stolen:
                taken = take(name)
            if stolen.share <= best[0]:
                best = stolen.share, taken
            if stolen.share <= STOLEN:
                break
            self.disturbed += 1
        self.stolen = max(self.stolen, best[0])
        return best[1]


class Stolen:
    """`with Stolen() as stolen`: then `stolen.share`, of our processor time, that was not ours.

    A virtual machine has what its host gives it (`steal` of proc_stat(5)).
    """

    def __enter__(self) -> Self:
        self._before = self._read()
        return self

    def __exit__(self, *_: object) -> None:
        passed = [b - a for a, b in zip(self._before, self._read(), strict=True)]
        self.share = passed[7] / max(sum(passed), 1)

    @staticmethod
    def _read() -> list[int]:
        first = Path("/proc/stat").read_text().partition("\n")[0]
        return [int(ticks) for ticks in first.split()[1:9]]


class Meter:
    """`with Meter(running) as meter`: then `meter.used`, processor seconds of one proxy."""

    def __init__(self, running: Running | None) -> None:
        self._running = running

    def __enter__(self) -> Self:
        self._before = self._running.processor_seconds() if self._running else 0.0
        self._begin = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.passed = time.monotonic() - self._begin
        self.used = self._running.processor_seconds() - self._before if self._running else 0.0
