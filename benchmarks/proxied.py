"""The proxy under measurement: a child process on a Unix socket, and a plain client of it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from proxy.processes import Process, descendants

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
UPSTREAM = Path(__file__).with_name("upstream.py")

BOOT_TIMEOUT = 30.0  # seconds until a proxy that does not answer is given up
STOP_TIMEOUT = 30.0
POLL = 0.001  # seconds between two looks: the resolution of the boot time


class BenchmarkError(Exception):
    """The proxy (or its pod) did not do what is to be measured."""


class Proxied:
    """`with Proxied() as proxy`: started, dormant; ended and cleaned up at the end.

    `bytecode` is a directory for compiled modules, kept from run to run as an installation keeps
    them; without it every module is compiled at every start. `settings` replace whole sections of
    the proxy's: with `listen` it may have a TCP address, whose `port` is taken from its log.
    `instead` is the section `upstream` for one that is not `upstream.py`'s.
    """

    def __init__(
        self,
        *upstream_arguments: str,
        bytecode: str | None,
        upstream: Path = UPSTREAM,
        instead: dict[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="dormant-")
        home = Path(self._directory.name)
        self.stamp = home / "stamp"
        self._socket = str(home / "proxy.sock")
        self._log = home / "log"
        self._config = home / "proxy.json"
        inner = str(home / "upstream.sock")
        command = [sys.executable, str(upstream), "--unix", inner]
        if upstream == UPSTREAM:
            command += ["--stamp", str(self.stamp)]
        tree = {
            "deferred_init": True,
            "listen": {"address": f"unix:{self._socket}"},
            "upstream": instead
            or {
                "url": f"http+unix://{inner}",
                "command": [*command, *upstream_arguments],
                "run_dir": str(home / "run"),
                "dormancy": "cold",
            },
        }
        self._tcp = "listen" in settings
        self._config.write_text(json.dumps(tree | settings))
        self._environment = _environment(bytecode)
        self.boot = 0.0

    def __enter__(self) -> Self:
        begun = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "proxy", "serve", "--config", str(self._config)],
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        try:
            self._await_health(begun + BOOT_TIMEOUT)
        except BaseException:
            self.close()
            raise
        self.boot = time.monotonic() - begun
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def family(self) -> list[Process]:
        """The proxy and everything below it, parents first."""
        return descendants(self.pid)

    @contextlib.contextmanager
    def connection(self) -> Iterator[http.client.HTTPConnection]:
        """A connection to the proxy. Raises `OSError` while it does not listen."""
        client = http.client.HTTPConnection("proxy")
        client.sock = socket.socket(socket.AF_INET if self._tcp else socket.AF_UNIX)
        try:
            client.sock.settimeout(60)
            client.sock.connect(("127.0.0.1", self.port) if self._tcp else self._socket)
            yield client
        finally:
            client.close()

    @property
    def port(self) -> int:
        """Where it listens. Raises `ConnectionRefusedError` while it does not."""
        for line in self._log.read_text().split("\n")[:-1]:
            if '"message": "listening"' in line:
                return int(json.loads(line)["address"].rpartition(":")[2])
        raise ConnectionRefusedError

    def ask(self, method: str, path: str, body: object = None) -> int:
        """The status of the answer, once its body has been read."""
        return self._exchange(method, path, body)[0]

    def get(self, path: str) -> Any:
        """The JSON body of the answer."""
        return json.loads(self._exchange("GET", path)[1])

    def _exchange(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        with self.connection() as client:
            client.request(method, path, None if body is None else json.dumps(body))
            answer = client.getresponse()
            return answer.status, answer.read()

    def _await_health(self, deadline: float) -> None:
        while True:
            with contextlib.suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/health") == 200:
                    return
            if self._process.poll() is not None:
                raise BenchmarkError(f"the proxy ended:\n{self._log.read_text()}")
            if time.monotonic() > deadline:
                raise BenchmarkError(f"no /health in {BOOT_TIMEOUT} s:\n{self._log.read_text()}")
            time.sleep(POLL)

    def init(self) -> None:
        status = self.ask("POST", "/api/init", {})
        if status != 200:
            raise BenchmarkError(f"init was answered {status}:\n{self._log.read_text()}")

    def close(self) -> None:
        family = self.family()
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            for member in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(member.pid, 9)
            self._process.wait()
            raise BenchmarkError(f"no end in {STOP_TIMEOUT} s:\n{self._log.read_text()}") from None
        finally:
            self._directory.cleanup()


def _environment(bytecode: str | None) -> dict[str, str]:
    """Ours without settings of the proxy's, and with exactly the given way of compiling."""
    ours = ("OH_", "PROXY_", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    if bytecode is None:  # an empty place, and nothing is written there
        return kept | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPYCACHEPREFIX": "/nonexistent"}
    return kept | {"PYTHONPYCACHEPREFIX": bytecode}
