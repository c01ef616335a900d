"""The sample agent's conversations: runs, and what is kept of them."""

from __future__ import annotations

import asyncio
import shutil
import signal
from typing import TYPE_CHECKING

import pytest

from proxy.demo.conversations import choose_tool, use_tool
from tests.demo.sampleagent import HEADERS, agent, answer_of, statuses

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


async def test_a_message_is_answered_and_the_run_finishes(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("one two three")
        await server.until(ident, "finished")
        events = await server.events(ident)
        assert statuses(events) == ["running", "finished"]
        assert answer_of(events) == "count: 3 words, 13 characters"
        assert [event["kind"] for event in events] == [
            "MessageEvent",
            "ConversationStateUpdateEvent",
            "ActionEvent",
            "ObservationEvent",
            "MessageEvent",
            "ConversationStateUpdateEvent",
        ]
        parts = [{"type": "text", "text": "reverse abc"}]
        path = f"/api/conversations/{ident}/events"
        message = {"role": "user", "content": parts}
        assert await server.ask("POST", path, json=message) == (200, {"success": True})
        await server.until(ident, "finished")
        assert answer_of(await server.events(ident)) == "reverse: cba"


async def test_conversations_survive_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "kept" / "conversations"
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        ident = await server.create("hello there")
        await server.until(ident, "finished")
        before = await server.events(ident)
    assert not (tmp_path / "agent.sock").exists()
    assert [file.name for file in path.iterdir()] == [f"{ident}.jsonl"]
    assert (path / f"{ident}.jsonl").stat().st_mode & 0o777 == 0o600
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        _, page = await server.ask("GET", "/api/conversations")
        assert [item["id"] for item in page["items"]] == [ident]
        assert await server.events(ident) == before
        assert (await server.say(ident, "and again"))[0] == 200


async def test_a_run_cut_off_by_a_crash_is_paused(tmp_path: Path) -> None:
    path = str(tmp_path / "conversations")
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=path) as server:
        ident = await server.create("wait 50")
        await server.until(ident, "running")
        assert await server.end(signal.SIGKILL) == -signal.SIGKILL
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=path) as server:
        await server.until(ident, "paused")
        assert (await server.say(ident, "go on"))[0] == 200


async def test_damaged_records_do_not_stop_the_server(tmp_path: Path) -> None:
    path = tmp_path / "conversations"
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        first, second, third = [await server.create() for _ in range(3)]
    (path / f"{first}.jsonl").write_text("{")
    (path / f"{second}.jsonl").unlink()
    (path / f"{second}.jsonl").mkdir()
    (path / "not-a-conversation.jsonl").touch()
    (path / "stray.txt").write_text("x")
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        _, page = await server.ask("GET", "/api/conversations")
        assert [item["id"] for item in page["items"]] == [third]
        await server.end()
        assert f"cannot serve conversation {first}" in server.log


async def test_what_cannot_be_stored_did_not_happen(tmp_path: Path) -> None:
    path = tmp_path / "conversations"
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        ident = await server.create()
        shutil.rmtree(path)
        fault = {"detail": "cannot store: No such file or directory"}
        assert await server.say(ident, "hello") == (507, fault)
        assert await server.ask("POST", "/api/conversations", json={}) == (507, fault)
        assert await server.events(ident) == []
        assert len((await server.ask("GET", "/api/conversations"))[1]["items"]) == 1
        body = {"initial_message": {"content": "hello"}}
        assert await server.ask("POST", "/api/conversations", json=body) == (507, fault)
        async with server.session.ws_connect(f"/sockets/events/{ident}", headers=HEADERS) as socket:
            await socket.send_json({"content": "hello"})
            assert (await socket.receive_json(timeout=60))["code"] == 507
        assert len((await server.ask("GET", "/api/conversations"))[1]["items"]) == 1
        path.mkdir()
        assert (await server.say(ident, "hello"))[0] == 200
        await server.until(ident, "finished")
        assert list(path.iterdir()) == [path / f"{ident}.jsonl"]


async def test_runs_over_the_limit_are_refused_and_not_kept(tmp_path: Path) -> None:
    async with agent(tmp_path, OH_MAX_CONCURRENT_RUNS="1") as server:
        busy, idle = await server.create("wait 50"), await server.create()
        body = {"initial_message": {"content": "hello"}}
        assert (await server.say(busy, "hello"))[0] == 409
        status, fault = await server.say(idle, "hello")
        assert (status, fault["detail"]) == (429, "1 of 1 runs (max_concurrent_runs) are busy")
        assert (await server.ask("POST", "/api/conversations", json=body))[0] == 429
        assert await server.events(idle) == []
        assert len((await server.ask("GET", "/api/conversations"))[1]["items"]) == 2


async def test_searches_are_filtered(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("hello")
        await server.until(ident, "finished")
        path = f"/api/conversations/{ident}/events/search"
        _, found = await server.ask("GET", f"{path}?kind=ActionEvent")
        assert [event["kind"] for event in found["items"]] == ["ActionEvent"]


async def test_odd_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(tmp_path / "c")) as server:
        for text in ("", "\x00", "\ud800", "😀 é\r\n", "wait for me", "reverse"):
            ident = await server.create(text)
            await server.until(ident, "finished")
            events = await server.events(ident)
            assert events[0]["llm_message"]["content"] == [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    ("text", "tool"),
    [
        ("one two", "count"),
        ("", "count"),
        ("reverse", "count"),
        ("wait", "count"),
        ("wait for me", "count"),
        ("reverse one two", "reverse"),
        ("wait 2", "wait"),
    ],
)
def test_the_same_text_is_always_given_to_the_same_tool(text: str, tool: str) -> None:
    assert choose_tool(text)[0] == tool


@pytest.mark.parametrize("text", ["wait -1", "wait nan", "wait -inf", "wait 0"])
async def test_no_wait_is_negative_or_endless(text: str) -> None:
    async with asyncio.timeout(60):
        await use_tool(*choose_tool(text))
    assert choose_tool("wait inf")[1] == {"seconds": 60.0}
