"""A user whose every byte can be told from everything else, and what is known of it afterwards."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import aiohttp

from tests.server.chaos.pod import PATIENCE
from tests.server.chaos.scan import Canary, Found

if TYPE_CHECKING:
    from tests.server.chaos.pod import Pod

USER = "alice"


class User:
    """Delivers its canary in every way that there is. The words before it tell which way it was."""

    def __init__(self, pod: Pod) -> None:
        self.canary = Canary()
        self._pod = pod
        self._behind: asyncio.StreamWriter | None = None
        self.event = ""  # the first one that it has seen

    def word(self, way: str) -> str:
        return f"{way}-{self.canary.text}-{way}"

    def request(self, **env: str) -> dict[str, Any]:
        """The body of its init request."""
        return {
            "session_api_keys": [self.word("session-key")],
            "secret_key": self.word("secret-key"),
            "conversations_path": USER,
            "web_url": USER,
            "allow_cors_origins": [self.word("file-content")],
            "env": {"USER_TOKEN": USER, "LLM_API_KEY": self.word("env"), **env},
        }

    async def watch(self) -> None:
        """See an event, whose number lets a client ask later for what it has missed."""
        headers = {"Accept": "text/event-stream"}
        proxy = self._pod.proxy
        async with proxy.session.get(f"{proxy.url}/api/init", headers=headers) as stream:
            async for line in stream.content:
                if line.startswith(b"id: "):
                    self.event = line[4:].decode().strip()
                    return

    async def work(self) -> None:
        """Leave the canary wherever the server's own user can."""
        proxy = self._pod.proxy
        await proxy.request("POST", "/remember", data=self.word("request-body"))
        await self._pod.asked(f"/say?{self.word('stderr')}")
        await self._pod.asked(f"/run?{self.word('argument')}")
        await self._pipeline()

    async def _pipeline(self) -> None:
        """Behind a request that is not answered waits another one; nobody reads an answer."""
        where = urlsplit(self._pod.proxy.url)
        _, self._behind = await asyncio.open_connection(where.hostname, where.port)
        body = self.word("pipelined-body")
        head = f"POST /remember HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        self._behind.write(f"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n{head}{body}".encode())
        await self._behind.drain()
        assert await self._pod.until((self._pod.witness / "waiting").exists)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._behind is not None:
            self._behind.close()
            with suppress(ConnectionError):
                await self._behind.wait_closed()


async def replayed(pod: Pod, last: str, marker: str, *, details: bool) -> str:
    """What a client is told that comes back with `last`, until `marker` is said."""
    query = "?details=true" if details else ""
    headers = {"Accept": "text/event-stream", "Last-Event-ID": last}
    said = ""
    url = f"{pod.proxy.url}/api/init{query}"
    async with asyncio.timeout(PATIENCE), pod.proxy.session.get(url, headers=headers) as stream:
        async for line in stream.content:
            said += line.decode()
            if marker in said:
                return said
    raise AssertionError(f"{marker} is not said: {said}")


async def found_in_events(pod: Pod, canary: Canary, lasts: list[str]) -> list[Found]:
    """Let the next user's server say a last word, and hear what is told with it."""
    marker = "last-words-of-bob"
    hearing = [
        asyncio.create_task(replayed(pod, last, marker, details=details))
        for last in lasts
        for details in (False, True)
    ]
    found = [*canary.within(json.dumps(await pod.details()).encode(), "details")]
    await pod.asked(f"/say?{marker}")
    with suppress(aiohttp.ClientError):
        await pod.dismiss()
    for said in await asyncio.gather(*hearing):
        found += canary.within(said.encode(), "events")
    return found
