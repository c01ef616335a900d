"""Agent servers to be claimed: behind the proxy, in each way to wait, and by their own init."""

from __future__ import annotations

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

from benchmarks.proc import proportional
from proxy.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).resolve().parent.parent.parent
KEY = "bootstrap"
PATIENCE = 180.0  # seconds for anything; a loaded machine takes long
POLL = 0.005
# No editor, no download of model prices.
QUIET = {"OH_ENABLE_VSCODE": "false", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}


class BenchmarkError(Exception):
    """A server did not do what is to be measured."""


def free_port() -> int:
    """A port that is free at this moment; the agent server cannot be handed a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def command(python: str, port: int) -> list[str]:
    return [python, "-m", "openhands.agent_server", "--host", "127.0.0.1", "--port", str(port)]


class Server:
    """`with Server(…)`: a dormant process tree that answers `/api/init` on `port`."""

    def __init__(self, argv: list[str], port: int, env: dict[str, str]) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="activation-")
        self._argv = argv
        self._env = dict(os.environ) | env
        self.port = port

    def __enter__(self) -> Self:
        log = Path(self._home.name, "log").open("wb")
        with log:
            self.process = subprocess.Popen(
                self._argv, cwd=self._home.name, env=self._env, stdout=log, stderr=log
            )
        try:
            self.until("/ready", 200)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
        self._home.cleanup()

    def ask(
        self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            content = None if body is None else json.dumps(body)
            client.request(
                method, path, content, {"Content-Type": "application/json"} | dict(headers or {})
            )
            answer = client.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data[:1] in (b"{", b"[") else data
        finally:
            client.close()

    def until(self, path: str, status: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise BenchmarkError(f"ended early:\n{self.log()[-2000:]}")
            try:
                if self.ask("GET", path)[0] == status:
                    return
            except OSError:
                pass
            time.sleep(POLL)
        raise BenchmarkError(f"{path} did not become {status}:\n{self.log()[-2000:]}")

    def log(self) -> str:
        return Path(self._home.name, "log").read_text(errors="replace")

    def activate(self, session: str) -> float:
        """Seconds from POST to 200; the session key must be enforced afterwards."""
        body = {"session_api_keys": [session], "env": {"LLM_API_KEY": "none"}}
        begun = time.monotonic()
        status, answer = self.ask("POST", "/api/init", body, {"X-Init-API-Key": KEY})
        taken = time.monotonic() - begun
        if status != 200:
            raise BenchmarkError(f"init answered {status}: {answer}")
        path = "/api/conversations/count"
        without = self.ask("GET", path)[0]
        with_key = self.ask("GET", path, headers={"X-Session-API-Key": session})[0]
        if (without, with_key) != (401, 200):
            raise BenchmarkError(f"the session key is not enforced: {without}, {with_key}")
        return taken

    def memory(self) -> int:
        """Bytes (Pss) of the whole tree."""
        return sum(proportional(one.pid) for one in descendants(self.process.pid))


class Proxied(Server):
    """The proxy in front of the agent server, which waits in the given way (`upstream.dormancy`).

    What is recorded goes to `plan`, or comes from there.
    """

    def __init__(
        self,
        python: str,
        dormancy: str,
        plan: Path,
        env: dict[str, str],
        *,
        on_exit: str = "dormant",
    ) -> None:
        port, inner = free_port(), free_port()
        settings = {
            "DEFERRED_INIT": "true",
            "LISTEN__ADDRESS": f"127.0.0.1:{port}",
            "INIT__KEY": KEY,
            "INIT__TIMEOUT": str(PATIENCE),
            "UPSTREAM__URL": f"http://127.0.0.1:{inner}",
            "UPSTREAM__ON_EXIT": on_exit,
            "UPSTREAM__DORMANCY": dormancy,
            "UPSTREAM__PRELOAD__TIMEOUT": str(PATIENCE),
        }
        if dormancy != "cold":
            settings["UPSTREAM__PRELOAD__PLAN"] = str(plan)
        ours = {f"PROXY_{name}": value for name, value in settings.items()}
        argv = [sys.executable, "-m", "proxy", "serve", "--", *command(python, inner)]
        super().__init__(argv, port, env | ours | {"PYTHONPATH": str(ROOT)})

    def details(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask("GET", "/api/init?details=true")[1]
        return answer

    def kill(self) -> None:
        os.kill(self.details()["pid"], 9)

    def until_state(self, state: str) -> None:
        deadline = time.monotonic() + PATIENCE
        while self.ask("GET", "/api/init")[1]["state"] != state:
            if time.monotonic() > deadline:
                raise BenchmarkError(f"never {state}")
            time.sleep(POLL)


class BuiltIn(Server):
    """The agent server with its own deferred init."""

    def __init__(self, python: str, env: dict[str, str]) -> None:
        port = free_port()
        own = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": KEY}
        super().__init__(command(python, port), port, env | own)
