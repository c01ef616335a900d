"""The sample agent's WebSocket and event stream."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import aiohttp

from tests.demo.sampleagent import HEADERS, agent, answer_of

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_websocket_replays_and_follows(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("first")
        await server.until(ident, "finished")
        path = f"/sockets/events/{ident}"
        async with server.session.ws_connect(path, headers=HEADERS) as socket:
            received = [await socket.receive_json(timeout=60) for _ in range(6)]
            assert received == await server.events(ident)
            await socket.send_json({"role": "user", "content": "reverse xyz"})
            received += [await socket.receive_json(timeout=60) for _ in range(6)]
            assert received == await server.events(ident)
            assert answer_of(received) == "reverse: zyx"


async def test_a_bad_frame_is_answered_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        path = f"/sockets/events/{await server.create()}"
        async with server.session.ws_connect(path, headers=HEADERS) as socket:
            for frame, code, fault in [
                ("{", 400, "no JSON"),
                ("[]", 422, "must be an object"),
                ('{"content": 1}', 422, "content must be"),
            ]:
                await socket.send_str(frame)
                event = await socket.receive_json(timeout=60)
                assert (event["kind"], event["code"]) == ("ServerErrorEvent", code)
                assert fault in event["detail"]
            await socket.send_json({"content": "still here"})
            assert (await socket.receive_json(timeout=60))["kind"] == "MessageEvent"


async def read_stream(answer: aiohttp.ClientResponse, count: int) -> list[tuple[int, Any]]:
    """(id, event) of the next `count` server-sent events."""
    events: list[tuple[int, Any]] = []
    async with asyncio.timeout(60):
        while len(events) < count:
            block = (await answer.content.readuntil(b"\n\n")).decode()
            fields = dict(line.split(": ", 1) for line in block.strip().splitlines())
            assert fields["event"] == json.loads(fields["data"])["kind"]
            events.append((int(fields["id"]), json.loads(fields["data"])))
    return events


async def test_server_sent_events_follow_and_resume(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create()
        path = f"/api/conversations/{ident}/stream"
        async with server.session.get(path, headers=HEADERS) as answer:
            assert answer.content_type == "text/event-stream"
            await server.say(ident, "hello")
            events = await read_stream(answer, 6)
        assert [number for number, _ in events] == list(range(6))
        assert [event for _, event in events] == await server.events(ident)
        resumed = HEADERS | {"Last-Event-ID": "3"}
        async with server.session.get(path, headers=resumed) as answer:
            assert await read_stream(answer, 2) == events[4:]


async def test_sigterm_closes_streams_and_sockets_properly(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("wait 50")
        path = f"/sockets/events/{ident}"
        socket = await server.session.ws_connect(path, headers=HEADERS)
        await socket.receive_json(timeout=60)
        stream = await server.session.get(f"/api/conversations/{ident}/stream", headers=HEADERS)
        ending = asyncio.create_task(server.end())
        async with asyncio.timeout(60):
            assert await stream.content.read()  # a cut stream would raise
            while (frame := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert (frame.data, frame.extra) == (aiohttp.WSCloseCode.GOING_AWAY, "server shutdown")
        assert await ending == 0
        await socket.close()
        stream.close()
