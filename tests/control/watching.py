"""Clients of the event stream, for tests."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import ProxyProcess

INITIALIZING = {"state": "initializing", "error": None}


class Stream:
    """Server-sent events of one connection, read one at a time."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer
        self.last = ""
        self.preamble = b""

    async def event(self) -> dict[str, Any] | None:
        """The data of the next event, None when the stream has ended properly."""
        fields: dict[str, str] = {}
        async with asyncio.timeout(60):
            async for raw in self.answer.content:
                line = raw.decode().rstrip("\n")
                if not line and "data" in fields:
                    assert fields["event"] == "status"
                    self.last = fields["id"]
                    event: dict[str, Any] = json.loads(fields["data"])
                    return event
                name, _, value = line.partition(": ")
                fields[name] = value
        return None

    async def all(self) -> list[dict[str, Any]]:
        events = []
        while (event := await self.event()) is not None:
            events.append(event)
        return events


@asynccontextmanager
async def stream(
    proxy: ProxyProcess, query: str = "", last: str | None = None
) -> AsyncIterator[Stream]:
    headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last} if last else {})
    limits = aiohttp.ClientTimeout(total=60)
    async with proxy.session.get(
        proxy.url + "/api/init" + query, headers=headers, timeout=limits
    ) as answer:
        assert answer.status == 200
        assert answer.content_type == "text/event-stream"
        assert answer.headers["Cache-Control"] == "no-store"
        yield Stream(answer)
