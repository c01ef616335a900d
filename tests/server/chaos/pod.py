"""A pod with a witness for its upstream, in one container or in two (`apart`)."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from proxy.processes import Process
from tests.activation.agentcontainer import AgentContainer
from tests.activation.apart import elsewhere
from tests.harness import KEY
from tests.launcher.launching import alive
from tests.server.chaos.kin import Relative, kin
from tests.server.chaos.scan import everything_in

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tests.harness import ProxyProcess, Serve

WITNESS = Path(__file__).with_name("witness.py")
PATIENCE = 30.0  # seconds; reached only by a failing test
TIMEOUT = 8.0  # seconds: `init.timeout`
PRELOADED = ["http.server", "socketserver", "json", "fcntl", "subprocess", "pathlib", "threading"]
STANDING = '{"of": "the image"}'  # what is at a mapped place before anybody comes


class Life(NamedTuple):
    """What one upstream has testified at its start."""

    process: Process
    users: list[str]
    alone: bool

    def __str__(self) -> str:
        alone = "" if self.alone else ", beside another one"
        return f"upstream {self.process.pid} of {self.users}{alone}"


class Pod:
    """`env` are more variables of the proxy's, which its upstream does not inherit."""

    def __init__(
        self,
        directory: Path,
        serve: Serve,
        *,
        apart: bool,
        on_exit: str,
        env: dict[str, str] | None = None,
    ) -> None:
        self.directory = directory
        self.witness = directory / "witness"
        self.place = directory / "place" / "server.json"
        self.run_dir = directory / "run"
        self.temporary = directory / "tmp"
        for made in (self.witness, self.place.parent, self.temporary):
            made.mkdir()
        self.place.write_text(STANDING)
        self.agent = AgentContainer(directory) if apart else None
        self.log: list[str] = []  # of proxies that have ended
        self._proxy: ProxyProcess | None = None
        self._serve = serve
        self._env = {"TMPDIR": str(self.temporary)} | (env or {})
        self._settings = settings(directory, on_exit=on_exit)
        self._settings["upstream"]["deny_env"] = list(env or {})
        if apart:
            self._settings["upstream"] |= elsewhere(directory)

    # Life

    async def begin(self) -> None:
        if self.agent is not None:
            self.agent.start()
        await self._begin_proxy()

    async def _begin_proxy(self) -> None:
        self._proxy = await self._serve(self._settings, env=self._env)

    @property
    def proxy(self) -> ProxyProcess:
        assert self._proxy is not None
        return self._proxy

    async def revive(self) -> None:
        """What a kubelet does: start the containers that have ended again."""
        if self.agent is not None and self.agent.process is not None:
            self.agent.process.poll()
            if self.agent.process.returncode is not None:
                self.agent.start()
        if self.proxy.process.returncode is not None:
            await self.proxy.close()
            self.log = self.tail()
            await self._begin_proxy()

    async def end(self) -> None:
        """Whatever its state; the proxy is ended by who has served it."""
        for one in self.kin():
            self.signal(one.pid, signal.SIGCONT)
        if self._proxy is not None:
            await self._proxy.close()
        if self.agent is not None and self.agent.process is not None:
            self.agent.process.terminate()
            await self.agent.ended()
        for one in self.kin():
            self.signal(one.pid, signal.SIGKILL)
        await self.until(lambda: not self.kin())

    @staticmethod
    def signal(pid: int, number: int) -> None:
        with suppress(ProcessLookupError):  # ended by itself meanwhile
            os.kill(pid, number)

    # Requests

    async def claim(self, user: str, **fields: Any) -> tuple[int, dict[str, Any]]:
        """The answer to an init request of `user`, who is in its environment and both files."""
        body = request_of(user)
        return await self.proxy.init(body | {"env": body["env"] | fields.pop("env", {})} | fields)

    async def details(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.proxy.get("/api/init?details=true"))[1]
        return found

    async def asked(self, path: str = "/me") -> dict[str, Any] | None:
        """The upstream's answer; None when there is none, or not its own."""
        try:
            status, answer = await self.proxy.get(path)
        except aiohttp.ClientError:
            return None
        return answer if status == 200 else None

    async def dismiss(self) -> None:
        """Let the upstream end by itself."""
        await self.asked("/exit?0")

    # What there is

    def kin(self) -> list[Relative]:
        agent = self.agent.process if self.agent is not None else None
        proxy = self._proxy.process if self._proxy is not None else None
        return kin({one.pid for one in (agent, proxy) if one}, agent.pid if agent else None)

    def roles(self) -> dict[str, int]:
        """Role -> pid; the youngest where there are several."""
        return {one.role: one.pid for one in self.kin()}

    def lives(self) -> list[Life]:
        """Every upstream there has been, in the order of their starts."""
        try:
            lines = (self.witness / "lives").read_text().splitlines()
        except FileNotFoundError:
            return []
        return [_life(json.loads(line)) for line in lines]

    def files(self) -> dict[str, str]:
        """What is in the places that an init's files are written to, by path in the pod."""
        found = {}
        for place in (self.run_dir, self.place.parent, self.temporary):
            for path in sorted(everything_in(place)):
                with suppress(FileNotFoundError, IsADirectoryError):  # removed meanwhile
                    text = path.read_text(errors="replace")
                    found[str(path.relative_to(self.directory))] = text
        return found

    def orphans(self) -> list[Relative]:
        """Who has outlived the container it was in."""
        return [one for one in self.kin() if one.role == "stray" and one.parent == os.getpid()]

    async def without_orphans(self, *, killed: bool = False) -> bool:
        """Wait for the end of those; `killed`: see to it, as the kernel does with a container."""

        def none() -> bool:
            orphans = self.orphans()
            for one in orphans if killed else ():
                self.signal(one.pid, signal.SIGKILL)
            return not orphans

        return await self.until(none)

    async def empty(self, container: Collection[int]) -> None:
        """End it as the kernel does: all who are in it, and whom those began meanwhile."""
        for pid in container:
            self.signal(pid, signal.SIGKILL)
        await self.until(lambda: not any(alive(pid) for pid in container))
        await self.without_orphans(killed=True)

    @property
    def warm(self) -> bool:
        """Whether a child waits for its orders."""
        return "waiting" in self.roles()

    @property
    def warmed(self) -> bool:
        """Whether the proxy knows how a start would be."""
        known = {"fork server is warm", "starts will be cold"}
        return any(line.get("message") in known for line in self.proxy.log)

    def tail(self, lines: int = 30) -> list[str]:
        """The end of the log, this proxy's after its predecessors'."""
        return [*self.log, *map(_line, self.proxy.log)][-lines:]

    @staticmethod
    async def until(done: Callable[[], object]) -> bool:
        """Whether it became so within `PATIENCE`."""
        try:
            async with asyncio.timeout(PATIENCE):
                while not done():
                    await asyncio.sleep(0.01)
        except TimeoutError:
            return False
        return True


def request_of(user: str) -> dict[str, Any]:
    return {
        "session_api_keys": [f"session-{user}"],
        "conversations_path": user,
        "web_url": user,
        "env": {"USER_TOKEN": user},
    }


def settings(directory: Path, *, on_exit: str) -> dict[str, Any]:
    """One mapped file in the run directory, one beyond it that replaces what stands there."""
    socket = directory / "up.sock"
    command = [sys.executable, str(WITNESS), str(socket), str(directory / "witness")]
    fields: dict[str, Any] = {
        "session_api_keys": {"env": "SESSION_KEYS", "encode": "comma", "file": "inside"},
        "secret_key": {"env": "SECRET", "file": "outside"},
        "conversations_path": {"file": "inside", "key": "user"},
        "web_url": {"file": "outside", "key": "user"},
        "allow_cors_origins": {"file": "outside", "key": "origins"},
    }
    files = {
        "inside": {"path": "{run_dir}/user.json", "env": "USER_FILE"},
        "outside": {"path": str(directory / "place" / "server.json"), "env": "PLACE_FILE"},
    }
    return {
        "deferred_init": True,
        "listen": {"address": "127.0.0.1:0", "admin": None},
        "init": {"key": KEY, "timeout": TIMEOUT},
        "upstream": {
            "url": f"http+unix://{socket}",
            "command": command,
            "run_dir": str(directory / "run"),
            "stop_grace": 1,
            "on_exit": on_exit,
            "restarts": {"limit": 1000},
            "profile": "none",
            "mapping": {"fields": fields, "files": files},
            "preload": {"modules": PRELOADED},
        },
        "drain": {"grace": 1},
    }


def _life(line: dict[str, Any]) -> Life:
    return Life(Process(line["pid"], line["started"]), line["users"], line["alone"])


def _line(line: dict[str, Any]) -> str:
    rest = {name: line[name] for name in line.keys() - {"time", "logger", "level", "message"}}
    return f"{line.get('time', '')[11:]} {line.get('message')} {json.dumps(rest)}"
