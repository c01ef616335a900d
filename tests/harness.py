"""The proxy as a real process in front of a real upstream, for tests and benchmarks."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import aiohttp
import yaml
from yarl import URL

from tests.forked import Forked, Zygote, can_fork

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Awaitable, Callable, Sequence

    Command = Callable[..., subprocess.CompletedProcess[str]]
    Serve = Callable[..., Awaitable["ProxyProcess"]]

ROOT = Path(__file__).resolve().parent.parent
ECHO = ROOT / "tests" / "upstreams" / "echo.py"
KEY = "bootstrap-key-of-the-pool"

# For every process of this run, those that other workers start as well: xdist's inherit it.
_BYTECODE_NAME = "BYTECODE_OF_THIS_RUN"
if _BYTECODE_NAME not in os.environ:
    _BYTECODE = tempfile.TemporaryDirectory(prefix="bytecode-")
    os.environ[_BYTECODE_NAME] = _BYTECODE.name

_LINE = 2**22  # bytes of the log, at most

# Settings of the proxy that are also variables of the test's own environment.
_OWN = ("OH_", "PROXY_")


def clean_environment(**extra: str) -> dict[str, str]:
    """The test's environment without anything that the proxy would take as a setting."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
    # Each of the many proxies would compile every module again where no bytecode is kept.
    kept.pop("PYTHONDONTWRITEBYTECODE", None)
    return kept | {"PYTHONPYCACHEPREFIX": os.environ[_BYTECODE_NAME]} | extra


ZYGOTE = Zygote(clean_environment())


class ProxyProcess:
    """`python -m proxy serve` with a settings file; its log lines are in `log` as they come.

    Forked from what has imported it already (see `zygote`), unless a test looks at what only exec
    does: `executed`, or by a command (`prefix`), or with variables that are read early.
    """

    def __init__(
        self,
        settings: dict[str, Any],
        directory: Path,
        env: dict[str, str],
        prefix: Sequence[str] = (),
        *,
        executed: bool = False,
    ) -> None:
        self._prefix = prefix
        self._forked = can_fork(env) and not prefix and not executed
        self.config = directory / "proxy.yaml"
        self.config.write_text(yaml.safe_dump(settings))
        self.log: list[dict[str, Any]] = []
        self._env = clean_environment(**env)
        self._changed = asyncio.Condition()
        self._process: asyncio.subprocess.Process | Forked | None = None
        self._reader: asyncio.Task[None] | None = None
        # A connection for each request: what is kept alive is the relay's tests' affair.
        connector = aiohttp.TCPConnector(force_close=True)
        self.session = aiohttp.ClientSession(connector=connector)
        self.url = ""

    @property
    def process(self) -> asyncio.subprocess.Process | Forked:
        assert self._process is not None
        return self._process

    @property
    def text(self) -> str:
        """Everything the proxy has logged."""
        return "\n".join(json.dumps(line, ensure_ascii=False) for line in self.log)

    async def start(self) -> Self:
        arguments = ["serve", "--config", str(self.config)]
        if self._forked:
            self._process = await ZYGOTE.start(arguments, self._env, limit=_LINE)
        else:
            self._process = await asyncio.create_subprocess_exec(
                *self._prefix, sys.executable, "-m", "proxy", *arguments,
                stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=self._env, limit=_LINE,
            )  # fmt: skip
        self._reader = asyncio.create_task(self._read())
        line = await self.logged(lambda line: line.get("message") == "listening")
        self.url = f"http://{line['address']}"
        return self

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for raw in self.process.stderr:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"message": raw.decode("utf-8", "replace").rstrip(), "plain": True}
            async with self._changed:
                self.log.append(line)
                self._changed.notify_all()
        async with self._changed:
            self._changed.notify_all()

    async def logged(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until a matching line was logged; fails with the whole log when none can come."""
        seen = 0
        async with self._changed:
            while True:
                for line in self.log[seen:]:
                    if wanted(line):
                        return line
                seen = len(self.log)
                if self._reader is not None and self._reader.done():
                    raise AssertionError(f"the proxy ended without it; its log:\n{self.text}")
                try:
                    await asyncio.wait_for(self._changed.wait(), 60)
                except TimeoutError:
                    raise AssertionError(f"not logged; the log:\n{self.text}") from None

    async def get(self, path: str, **kwargs: Any) -> tuple[int, Any]:
        return await self.request("GET", path, **kwargs)

    async def request(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        """Status and JSON body."""
        async with self.session.request(method, self._exact(path), **kwargs) as answer:
            return answer.status, json.loads(await answer.read() or b"null")

    def _exact(self, path: str) -> URL:
        return URL(self.url + path, encoded=True)  # as written: a client's quoting is no test

    async def init(self, body: object | None = None, key: str | None = KEY) -> tuple[int, Any]:
        headers = {"X-Init-API-Key": key} if key is not None else {}
        return await self.request("POST", "/api/init", json=body or {}, headers=headers)

    async def state(self) -> str:
        return str((await self.get("/api/init"))[1]["state"])

    async def until(self, state: str) -> None:
        """Wait for a state; polls, since not every test waits for a change that is logged."""
        async with asyncio.timeout(60):
            while await self.state() != state:
                await asyncio.sleep(0.01)

    async def ended(self) -> int:
        """The exit code, once the proxy has ended by itself and its log is read."""
        async with asyncio.timeout(60):
            code = await self.process.wait()
            if self._reader is not None:
                await self._reader
        return code

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        with suppress(ProcessLookupError):
            self.process.terminate()
        try:
            return await self.ended()
        finally:
            await self.session.close()

    async def close(self) -> None:
        """End it whatever its state; for clean-up only."""
        if self._process is None:
            await self.session.close()
            return
        try:
            await self.stop()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
            raise AssertionError(f"the proxy did not stop; its log:\n{self.text}") from None


def echo_settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    """Settings for a dormant proxy in front of the echo upstream on a Unix socket.

    It has no dormant mode; what finds that out would have each of the many start twice.
    """
    path = directory / "up.sock"
    return {
        "deferred_init": True,
        "listen": {"address": "127.0.0.1:0", "admin": None},
        "init": {"key": KEY, "timeout": 60},
        "upstream": {
            "url": f"http+unix://{path}",
            "command": [sys.executable, str(ECHO), "--unix", str(path)],
            "run_dir": str(directory / "run"),
            "dormancy": "preload" if upstream.get("preload") else "cold",
            "stop_grace": 5,
        }
        | upstream,
        "drain": {"grace": 10},
    }
