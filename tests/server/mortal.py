"""A pod whose parts a test kills, in a state that it holds.

Nothing is timed: files in `steer` hold the modules' import, the upstream's readiness, its end and
its answers (see `upstreams/echo.py`), and SIGSTOP holds the launcher.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp

from proxy.processes import descendants
from tests.activation.agentcontainer import AgentContainer
from tests.activation.apart import elsewhere
from tests.harness import KEY, echo_settings
from tests.launcher.launching import LAUNCHER, alive

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.harness import ProxyProcess, Serve

USER, OTHER = "the-users-session-key", "another-users-session-key"
PATIENCE = 60.0
# Seconds between two questions to the proxy: each costs both sides some milliseconds' work.
GLANCE = 0.05


class Mortal:
    """Proxy, launcher, fork server and agent, in one container or in two (`apart`)."""

    def __init__(self, directory: Path, serve: Serve, *, apart: bool, timeout: float = 20) -> None:
        self.steer = directory / "steer"
        self.steer.mkdir()
        self.agent = AgentContainer(directory) if apart else None
        if self.agent is not None:
            self.agent.program = LAUNCHER  # as a zipapp it is compiled again at each start
        self.posted: asyncio.Task[tuple[int, Any]] | None = None
        self.slow: asyncio.Task[Any] | None = None
        self.victims: set[int] = set()
        self.drains = False
        self.leaving: int | None = None  # an upstream that was told to end
        self._serve = serve
        self._frozen: int | None = None
        modules = directory / "modules"
        modules.mkdir()
        (modules / "held.py").write_text(_held(self.steer))
        self._settings = echo_settings(
            directory,
            env={"PYTHONPATH": str(modules)},
            preload={"modules": ["http.server", "held"]},
            stop_grace=60,
        )
        self._settings["upstream"]["command"] += ["--steer", str(self.steer)]
        self._settings["init"]["timeout"] = timeout
        if apart:
            self._settings["upstream"] |= elsewhere(directory)

    # Life

    async def begin(self) -> None:
        if self.agent is not None:
            self.agent.start()
        self.proxy: ProxyProcess = await self._serve(self._settings)

    async def end(self) -> None:
        self.release()
        tasks = [task for task in (self.posted, self.slow) if task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE)
        if self.agent is not None and self.agent.process is not None:
            self.agent.process.poll()
            if self.agent.process.returncode is None:
                self.agent.kill()

    def hold(self, *names: str) -> None:
        for name in names:
            (self.steer / name).touch()

    def release(self) -> None:
        """Let go of everything that is held."""
        for name in ("importing", "unready", "stubborn", "broken", "slow"):
            (self.steer / name).unlink(missing_ok=True)
        if self._frozen is not None and alive(self._frozen):
            os.kill(self._frozen, signal.SIGCONT)
        self._frozen = None

    def freeze_launcher(self) -> None:
        self._frozen = self.launcher
        os.kill(self._frozen, signal.SIGSTOP)

    def post(self) -> None:
        """Claim for the user; the answer is awaited later."""
        self.posted = asyncio.create_task(self.proxy.init({"session_api_keys": [USER]}))

    async def bad_claim(self) -> Any:
        """The answer to an init request without a body."""
        headers = {"X-Init-API-Key": KEY}
        return (await self.proxy.request("POST", "/api/init", headers=headers))[1]

    async def claim(self, key: str = USER) -> None:
        answer = await self.proxy.init({"session_api_keys": [key]})
        assert answer == (200, {"state": "ready", "error": None})

    # Who is who

    @property
    def launcher(self) -> int:
        if self.agent is not None:
            assert self.agent.process is not None
            return self.agent.process.pid
        (found,) = [pid for pid in _family(self.proxy.process.pid) if b"--fd" in _command(pid)]
        return found

    async def forkserver(self) -> int:
        """Its pid; it has told by importing."""
        await self._until((self.steer / "forkserver").exists)
        return int((self.steer / "forkserver").read_text())

    async def details(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.proxy.get("/api/init?details=true"))[1]
        return found

    async def until_phase(self, phase: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.details())["phase"] != phase:
                await asyncio.sleep(GLANCE)

    async def until_up(self) -> None:
        await self.proxy.logged(lambda line: "echo upstream is up" in line.get("message", ""))

    # Death

    async def kill(self, victim: str) -> None:
        """`proxy`, `agent`, `forkserver`, `launcher` (with its container), or `both` containers."""
        chosen: list[int] = []
        match victim:
            case "agent":
                chosen = [int((await self.details())["pid"])]
            case "forkserver":
                chosen = [await self.forkserver()]
            case "proxy":
                chosen = self._container_of_the_proxy()
            case "launcher":
                chosen = self._container_of_the_launcher()
            case "both":
                chosen = self._container_of_the_proxy() + self._container_of_the_launcher()
        self.victims.update(chosen)
        for pid in chosen:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.agent is not None and self.agent.process is not None and victim != "proxy":
            await self._until(lambda: not any(alive(pid) for pid in chosen))
            self.agent.process.poll()

    def _container_of_the_proxy(self) -> list[int]:
        return _family(self.proxy.process.pid)

    def _container_of_the_launcher(self) -> list[int]:
        # Alone with the proxy, it is no container: nobody else goes with it.
        return _family(self.launcher) if self.agent is not None else [self.launcher]

    async def come_back(self) -> None:
        """What a kubelet does: start again every container that has ended."""
        leaving = self.leaving
        if leaving is not None:
            await self._until(lambda: not alive(leaving))
        if self.drains or self.proxy.process.pid in self.victims:
            await self.proxy.ended()
            self.proxy = await self._serve(self._settings)
        if self.agent is not None and self.launcher in self.victims:
            assert self.agent.process is not None
            self.agent.process.wait()
            self.agent.start()

    # Judgement

    async def settles_as(self, state: str) -> None:
        """Wait for the state that stays (or one of "ready or dormant"), and see that it is true."""
        among, state = state.split(" or "), ""
        async with asyncio.timeout(PATIENCE):
            while not state:
                await asyncio.sleep(GLANCE)
                state = "".join([one for one in among if await self._is(one)])
        if self.posted is not None:
            await self._the_poster_was_told(state)
        assert (await self.proxy.init({}, key="wrong"))[0] == 401
        assert (await self.proxy.init({}, key=USER))[0] == 401
        if state == "ready":
            assert (await self.proxy.init({}))[0] == 400
        else:
            assert [await self._with(key) for key in (None, USER, OTHER)] == [503, 503, 503]
            await self.claim(OTHER)
            assert [await self._with(key) for key in (None, USER, OTHER)] == [401, 401, 200]
            return
        assert [await self._with(key) for key in (None, USER, OTHER)] == [401, 200, 401]

    async def _is(self, state: str) -> bool:
        try:
            details = await self.details()
            if details["state"] != state or (await self.proxy.get("/ready"))[0] != 200:
                return False
            if state == "dormant":
                return details["pid"] is None and details["phase"] is None
            status, answer = await self.proxy.get("/api/self", headers=_session(USER))
        except aiohttp.ClientError:
            return False  # between two lives
        return status == 200 and answer["pid"] == details["pid"] not in self.victims

    async def _with(self, key: str | None) -> int:
        return (await self.proxy.get("/api/self", headers=_session(key)))[0]

    async def _the_poster_was_told(self, state: str) -> None:
        assert self.posted is not None
        await asyncio.wait({self.posted}, timeout=PATIENCE)
        if isinstance(self.posted.exception(), aiohttp.ClientError):
            return  # the proxy was gone
        status, answer = self.posted.result()
        assert answer["state"] == state if "state" in answer else status == 503
        assert (status == 200) == (state == "ready")

    async def _until(self, done: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not done():
                await asyncio.sleep(0.01)


def _family(pid: int) -> list[int]:
    """Parents first: with its container, nobody outlives its parent to tell of it."""
    return [one.pid for one in descendants(pid)]


def _command(pid: int) -> list[bytes]:
    return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")


def _session(key: str | None) -> dict[str, str]:
    return {"X-Session-API-Key": key} if key is not None else {}


def _held(steer: Path) -> str:
    """A module whose import tells the fork server's pid and lasts while `importing` is there."""
    return textwrap.dedent(f"""
        import os, time
        place = {str(steer)!r}
        with open(place + "/forkserver.part", "w") as file:
            file.write(str(os.getpid()))
        os.rename(place + "/forkserver.part", place + "/forkserver")
        while os.path.exists(place + "/importing"):
            time.sleep(0.01)
    """)
