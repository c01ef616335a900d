"""The sample agent server as a process of its own, and a client of it."""

from __future__ import annotations

import asyncio
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.harness import ZYGOTE, clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.forked import Forked

KEY = "first-session-key"
OTHER = "second-session-key"
HEADERS = {"X-Session-API-Key": KEY}
NOBODY = "00000000-0000-0000-0000-000000000000"


class Agent:
    """A sample agent server as a process, and a client of it."""

    def __init__(self, process: Forked, session: aiohttp.ClientSession) -> None:
        self.process = process
        self.session = session
        self.log = ""

    async def ask(self, method: str, path: str, **kwargs: Any) -> tuple[int, Any]:
        headers = kwargs.pop("headers", HEADERS)
        async with self.session.request(method, path, headers=headers, **kwargs) as answer:
            return answer.status, await answer.json()

    async def create(self, text: str | None = None) -> str:
        body = {} if text is None else {"initial_message": {"content": text}}
        status, info = await self.ask("POST", "/api/conversations", json=body)
        assert status == 201
        return str(info["id"])

    async def say(self, ident: str, text: str) -> tuple[int, Any]:
        return await self.ask("POST", f"/api/conversations/{ident}/events", json={"content": text})

    async def events(self, ident: str) -> list[dict[str, Any]]:
        status, page = await self.ask("GET", f"/api/conversations/{ident}/events/search")
        assert status == 200
        return list(page["items"])

    async def until(self, ident: str, wanted: str) -> None:
        async with asyncio.timeout(60):
            while (await self.ask("GET", f"/api/conversations/{ident}"))[1][
                "execution_status"
            ] != wanted:
                await asyncio.sleep(0.01)

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            self.log += (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def agent(directory: Path, **env: str) -> AsyncIterator[Agent]:
    """Keys `KEY` and `OTHER` unless `env` says otherwise; `OH_X=""` leaves a variable out."""
    keys = {"OH_SESSION_API_KEYS_0": KEY, "OH_SESSION_API_KEYS_1": OTHER}
    given = {name: value for name, value in (keys | env).items() if value}
    path = directory / "agent.sock"
    process = await ZYGOTE.start(
        ["--unix", str(path)], clean_environment(**given), program="proxy.demo.agent"
    )
    connector = aiohttp.UnixConnector(path=str(path))
    async with aiohttp.ClientSession("http://agent", connector=connector) as session:
        server = Agent(process, session)
        try:
            async with asyncio.timeout(60):
                while "listening on" not in server.log:
                    line = await process.stderr.readline()
                    assert line, f"the agent ended: {server.log}"
                    server.log += line.decode()
            yield server
        finally:
            await server.end()


def statuses(events: list[dict[str, Any]]) -> list[str]:
    return [str(event["value"]) for event in events if event.get("key") == "execution_status"]


def answer_of(events: list[dict[str, Any]]) -> str:
    messages = [e["llm_message"] for e in events if e["kind"] == "MessageEvent"]
    assert messages[-1]["role"] == "assistant"
    return str(messages[-1]["content"][0]["text"])
