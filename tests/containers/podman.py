"""Containers run by podman as root, without a network, spoken to through their own loopback."""

from __future__ import annotations

import ctypes
import http.client
import json
import socket
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROXY_IMAGE = "deferred-init-proxy"
ENTRYPOINT_IMAGE = "deferred-init-entrypoint"
# The real agent server as it would be published, and the proxy on top of it.
AGENT_IMAGE = "agent-server"
AGENT_WARM_IMAGE = "agent-server-warm"
BASE_IMAGE = "python:3.13-slim"
KEY = "bootstrap-key-of-the-pool"
# As the restricted Pod Security profile has it, and without the shell that the base image brings.
HARDENED = (
    *("--network", "none", "--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:mode=1777"),
    *("--cap-drop", "all", "--security-opt", "no-new-privileges"),
    *("--volume", "/dev/null:/bin/sh:ro"),
)
_CLONE_NEWNET = 0x4000_0000
PATIENCE = 30.0


def podman(*arguments: str, check: bool = True, timeout: float = 120) -> str:
    """What podman prints; its complaint is the error's text."""
    done = subprocess.run(
        ["podman", *arguments], capture_output=True, text=True, timeout=timeout, check=False
    )
    if check and done.returncode:
        raise AssertionError(f"podman {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A started container, by its name or id."""

    name: str

    def inspect(self) -> dict[str, Any]:
        found: list[dict[str, Any]] = json.loads(podman("container", "inspect", self.name))
        return found[0]

    @property
    def pid(self) -> int:
        """Of its first process, as the host sees it."""
        return int(self.inspect()["State"]["Pid"])

    def logs(self) -> str:
        """Both its streams."""
        done = subprocess.run(
            ["podman", "logs", self.name], capture_output=True, text=True, check=True, timeout=60
        )
        return done.stdout + done.stderr

    def last_words(self) -> str:
        return "\n".join(self.logs().splitlines()[-30:])

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return int(podman("wait", self.name))

    def processes(self) -> dict[int, str]:
        """Host pid -> state letter, of everything in its pid namespace."""
        own = Path(f"/proc/{self.pid}/ns/pid").readlink()
        found = {}
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == own:
                    found[int(entry.name)] = (entry / "stat").read_text().rpartition(")")[2][1]
            except OSError:
                continue
        return found

    def request(
        self, method: str, path: str, body: object = None, *, port: int = 8000, **headers: str
    ) -> tuple[int, Any]:
        """Status and JSON body of a request from inside its network namespace."""
        connection = self.connection(self.pid, port)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            data = json.dumps(body) if body is not None else None
            connection.request(method, path, data, named)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(content) if content else None

    def connection(self, pid: int, port: int = 8000) -> http.client.HTTPConnection:
        """A connection made inside its network namespace, which is that of its process `pid`."""
        made = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        made.sock = _connect_inside(pid, port)
        return made

    def init(self, body: object, key: str = KEY) -> tuple[int, Any]:
        return self.request("POST", "/api/init", body, X_Init_API_Key=key)

    def until(self, path: str, status: int = 200, *, patience: float = PATIENCE) -> None:
        """Poll `path` until it is answered with `status`."""
        deadline = time.monotonic() + patience
        last: object = None
        while time.monotonic() < deadline:
            try:
                last = self.request("GET", path)
                if last[0] == status:
                    return
            except OSError as error:
                last = error
            time.sleep(0.02)
        raise AssertionError(f"{path} is not {status} but {last}; log:\n{self.last_words()}")

    def until_state(self, state: str, *, patience: float = PATIENCE) -> None:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            try:
                if self.request("GET", "/api/init")[1]["state"] == state:
                    return
            except OSError:
                pass  # between two lives
            time.sleep(0.02)
        raise AssertionError(f"the state does not become {state}; log:\n{self.last_words()}")


def _connect_inside(pid: int, port: int) -> socket.socket:
    """A connection made in the network namespace of `pid`: a socket stays where it was made.

    In a thread of its own, because a namespace belongs to a thread.
    """
    result: list[socket.socket | OSError] = []

    def connect() -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        try:
            with Path(f"/proc/{pid}/ns/net").open() as namespace:
                if libc.setns(namespace.fileno(), _CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns")  # noqa: TRY301  one way out
            result.append(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))
        except OSError as error:
            result.append(error)

    thread = threading.Thread(target=connect)
    thread.start()
    thread.join()
    if isinstance(result[0], OSError):
        raise result[0]
    return result[0]
