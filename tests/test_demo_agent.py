from __future__ import annotations

import asyncio
import io
import json
import shutil
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy.demo.config import Config, ConfigError
from proxy.demo.conversations import choose_tool, use_tool
from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

KEY = "first-session-key"
OTHER = "second-session-key"
HEADERS = {"X-Session-API-Key": KEY}
NOBODY = "00000000-0000-0000-0000-000000000000"


class Agent:
    """A sample agent server as a process, and a client of it."""

    def __init__(self, process: asyncio.subprocess.Process, session: aiohttp.ClientSession) -> None:
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
        async with asyncio.timeout(20):
            while (await self.ask("GET", f"/api/conversations/{ident}"))[1][
                "execution_status"
            ] != wanted:
                await asyncio.sleep(0.01)

    async def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(20):
            assert self.process.stderr is not None
            self.log += (await self.process.stderr.read()).decode()
            return await self.process.wait()


@asynccontextmanager
async def agent(directory: Path, **env: str) -> AsyncIterator[Agent]:
    """Keys `KEY` and `OTHER` unless `env` says otherwise; `OH_X=""` leaves a variable out."""
    keys = {"OH_SESSION_API_KEYS_0": KEY, "OH_SESSION_API_KEYS_1": OTHER}
    given = {name: value for name, value in (keys | env).items() if value}
    path = directory / "agent.sock"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.demo.agent", "--unix", str(path),
        cwd=ROOT, env=clean_environment(**given), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    connector = aiohttp.UnixConnector(path=str(path))
    async with aiohttp.ClientSession("http://agent", connector=connector) as session:
        server = Agent(process, session)
        try:
            async with asyncio.timeout(20):
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


# -- who may ask


@pytest.mark.parametrize("path", ["/alive", "/health", "/ready", "/server_info"])
async def test_probes_need_no_key(tmp_path: Path, path: str) -> None:
    async with agent(tmp_path) as server:
        assert (await server.ask("GET", path, headers={}))[0] == 200


async def test_everything_else_needs_a_session_key(tmp_path: Path) -> None:
    protected = [
        ("GET", "/api/conversations"),
        ("POST", "/api/conversations"),
        ("GET", f"/api/conversations/{NOBODY}"),
        ("POST", f"/api/conversations/{NOBODY}/events"),
        ("GET", f"/api/conversations/{NOBODY}/events/search"),
        ("GET", f"/api/conversations/{NOBODY}/stream"),
        ("GET", "/api/config"),
        ("GET", f"/sockets/events/{NOBODY}"),
        ("GET", "/api/nothing-here"),
        ("GET", f"/api/conversations?session_api_key={KEY}"),  # only browsers' WebSockets may
    ]
    async with agent(tmp_path) as server:
        for method, path in protected:
            for headers in ({}, {"X-Session-API-Key": "wrong"}, {"X-Session-API-Key": ""}):
                status, body = await server.ask(method, path, headers=headers)
                assert (status, body) == (401, {"detail": "missing or wrong X-Session-API-Key"})
        for key in (KEY, OTHER):
            headers = {"X-Session-API-Key": key}
            assert (await server.ask("GET", "/api/conversations", headers=headers))[0] == 200


async def test_without_keys_the_server_is_open(tmp_path: Path) -> None:
    async with agent(tmp_path, OH_SESSION_API_KEYS_0="", OH_SESSION_API_KEYS_1="") as server:
        assert (await server.ask("GET", "/api/conversations", headers={}))[0] == 200


async def test_a_websocket_is_refused_before_the_handshake(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        path = f"/sockets/events/{await server.create()}"
        for target in (path, f"{path}?session_api_key=wrong"):
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await server.session.ws_connect(target)
            assert refused.value.status == 401
        async with server.session.ws_connect(f"{path}?session_api_key={KEY}"):
            pass
        async with server.session.ws_connect(path, headers=HEADERS):
            pass


async def test_no_secret_is_told(tmp_path: Path) -> None:
    secrets = {"OH_SECRET_KEY": "the-signing-key", "LLM_API_KEY": "the-model-key"}
    async with agent(tmp_path, LLM_MODEL="sample/model", **secrets) as server:
        shown = json.dumps([
            await server.ask("GET", "/api/config"),
            await server.ask("GET", "/server_info"),
            await server.ask("GET", "/api/conversations", headers={"X-Session-API-Key": "wrong"}),
        ])  # fmt: skip
        await server.end()
        assert "sample/model" in shown
        for secret in (KEY, OTHER, *secrets.values()):
            assert secret not in shown
            assert secret not in server.log


# -- conversations


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
    assert not list(path.rglob(".*"))
    assert {file.stat().st_mode & 0o777 for file in path.rglob("*.json")} == {0o600}
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


async def test_records_of_another_key_are_not_served(tmp_path: Path) -> None:
    where = {"OH_CONVERSATIONS_PATH": str(tmp_path / "conversations")}
    async with agent(tmp_path, OH_SECRET_KEY="mine", **where) as server:
        ident = await server.create("private words")
        await server.until(ident, "finished")
    async with agent(tmp_path, OH_SECRET_KEY="another", **where) as server:
        assert (await server.ask("GET", f"/api/conversations/{ident}"))[0] == 404
        await server.end()
        assert f"cannot serve conversation {ident}" in server.log
    rotated = {"OH_SECRET_KEY": "another", "OH_PREVIOUS_SECRET_KEYS_0": "mine"}
    async with agent(tmp_path, **rotated, **where) as server:
        assert (await server.ask("GET", f"/api/conversations/{ident}"))[0] == 200


async def test_damaged_records_do_not_stop_the_server(tmp_path: Path) -> None:
    path = tmp_path / "conversations"
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        first, second, third = [await server.create() for _ in range(3)]
    (path / first / "meta.json").write_text("{")
    (path / second / "meta.json").unlink()
    (path / "not-a-conversation").mkdir()
    (path / "stray.txt").write_text("x")
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(path)) as server:
        _, page = await server.ask("GET", "/api/conversations")
        assert [item["id"] for item in page["items"]] == [third]


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
            assert (await socket.receive_json(timeout=20))["code"] == 507
        assert len((await server.ask("GET", "/api/conversations"))[1]["items"]) == 1
        path.mkdir()
        assert (await server.say(ident, "hello"))[0] == 200
        await server.until(ident, "finished")
        assert list(path.iterdir()) == [path / ident]


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


async def test_searches_are_paged_and_filtered(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("hello")
        await server.until(ident, "finished")
        path = f"/api/conversations/{ident}/events/search"
        everything = await server.events(ident)
        _, page = await server.ask("GET", f"{path}?limit=4")
        _, rest = await server.ask("GET", f"{path}?limit=4&page_id={page['next_page_id']}")
        assert page["items"] + rest["items"] == everything
        assert rest["next_page_id"] is None
        _, page = await server.ask("GET", f"{path}?kind=ActionEvent")
        assert [event["kind"] for event in page["items"]] == ["ActionEvent"]
        for query in ("limit=0", "limit=101", "limit=-1", "limit=x", "page_id=%20", "page_id=1e9"):
            assert (await server.ask("GET", f"{path}?{query}"))[0] == 422


# -- streams


async def test_a_websocket_replays_and_follows(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create("first")
        await server.until(ident, "finished")
        path = f"/sockets/events/{ident}"
        async with server.session.ws_connect(path, headers=HEADERS) as socket:
            received = [await socket.receive_json(timeout=20) for _ in range(6)]
            assert received == await server.events(ident)
            await socket.send_json({"role": "user", "content": "reverse xyz"})
            received += [await socket.receive_json(timeout=20) for _ in range(6)]
            assert received == await server.events(ident)
            assert answer_of(received) == "reverse: zyx"


async def test_a_bad_frame_is_answered_and_the_socket_goes_on(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        path = f"/sockets/events/{await server.create()}"
        async with server.session.ws_connect(path, headers=HEADERS) as socket:
            for frame, code, fault in [
                ("{", 400, "no JSON"),
                ("[]", 422, "must be an object"),
                ('{"content": 1}', 422, "content: must be"),
            ]:
                await socket.send_str(frame)
                event = await socket.receive_json(timeout=20)
                assert (event["kind"], event["code"]) == ("ServerErrorEvent", code)
                assert fault in event["detail"]
            await socket.send_json({"content": "still here"})
            assert (await socket.receive_json(timeout=20))["kind"] == "MessageEvent"


async def read_stream(answer: aiohttp.ClientResponse, count: int) -> list[tuple[int, Any]]:
    """(id, event) of the next `count` server-sent events."""
    events: list[tuple[int, Any]] = []
    async with asyncio.timeout(20):
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
        await socket.receive_json(timeout=20)
        stream = await server.session.get(f"/api/conversations/{ident}/stream", headers=HEADERS)
        ending = asyncio.create_task(server.end())
        async with asyncio.timeout(20):
            assert await stream.content.read()  # a cut stream would raise
            while (frame := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                pass
        assert (frame.data, frame.extra) == (aiohttp.WSCloseCode.GOING_AWAY, "server shutdown")
        assert await ending == 0
        await socket.close()
        stream.close()


# -- bad input


async def test_bad_requests_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create()
        create, say = "/api/conversations", f"/api/conversations/{ident}/events"
        cases: list[tuple[str, bytes, int, str]] = [
            (create, b"{", 400, "no JSON"),
            (create, b"\xff", 400, "no JSON"),
            (create, b"[" * 100_000, 400, "nested too deeply"),
            (create, b"[]", 422, "the body: must be an object"),
            (create, b'{"initial_message": 1}', 422, "initial_message: must be an object"),
            (create, b'{"initial_message": {}}', 422, "initial_message.content: must be"),
            (say, b"", 422, "content: must be"),
            (say, b'{"role": "system", "content": "x"}', 422, "role: must be 'user'"),
            (say, b'{"content": []}', 422, "content: must be"),
            (say, b'{"content": [{"text": "a"}, {"image": 1}]}', 422, "content[1].text: must be"),
            (say, b'{"content": "' + b"x" * 2**20 + b'"}', 413, "Too Large"),
            ("/api/conversations/x/events", b"{}", 422, "must be a UUID"),
            (f"/api/conversations/{NOBODY}/events", b"{}", 404, f"no conversation {NOBODY}"),
            (f"/api/conversations/{ident}", b"", 405, "Method Not Allowed"),
            ("/api/nothing-here", b"", 404, "Not Found"),
        ]
        for path, body, status, fault in cases:
            got, answer = await server.ask("POST", path, data=io.BytesIO(body))
            assert (path, got, fault in answer["detail"]) == (path, status, True), answer
        assert await server.events(ident) == []


async def test_odd_texts_are_kept_as_they_are(tmp_path: Path) -> None:
    async with agent(tmp_path, OH_CONVERSATIONS_PATH=str(tmp_path / "c")) as server:
        for text in ("", "\x00", "\ud800", "😀 é\r\n", "wait for me", "reverse"):
            ident = await server.create(text)
            await server.until(ident, "finished")
            events = await server.events(ident)
            assert events[0]["llm_message"]["content"] == [{"type": "text", "text": text}]


@pytest.mark.parametrize(
    ("arguments", "env", "code", "fault"),
    [
        (["--port", "65536"], {}, 2, "must be a number from 0 to 65535"),
        (["--port", "1", "--unix", "x"], {}, 2, "not allowed with"),
        (["--unix", "/nowhere/agent.sock"], {}, 1, "cannot listen on unix:/nowhere/agent.sock"),
        ([], {"OH_MAX_CONCURRENT_RUNS": "0"}, 2, "OH_MAX_CONCURRENT_RUNS must be a whole number"),
        ([], {"OH_SESSION_API_KEYS_1": " "}, 2, "OH_SESSION_API_KEYS_1 is blank"),
        ([], {"OH_CONVERSATIONS_PATH": "/proc/x"}, 1, "cannot keep conversations in /proc/x"),
    ],
)
async def test_a_server_that_cannot_start_says_why(
    arguments: list[str], env: dict[str, str], code: int, fault: str
) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.demo.agent", *(arguments or ["--port", "0"]),
        cwd=ROOT, env=clean_environment(**env), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(20):
        _, log = await process.communicate()
    assert process.returncode == code
    assert fault in log.decode()
    assert "Traceback" not in log.decode()


async def test_with_port_0_the_log_says_which(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy.demo.agent", "--port", "0",
        cwd=ROOT, env=clean_environment(), stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    async with asyncio.timeout(20):
        line = (await process.stderr.readline()).decode()
        address = line.split("listening on ")[1].split(",")[0]
        async with aiohttp.request("GET", f"http://{address}/health") as answer:
            assert answer.status == 200
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


# -- pure parts


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
    async with asyncio.timeout(20):
        await use_tool(*choose_tool(text))
    assert choose_tool("wait inf")[1] == {"seconds": 60.0}


def test_keys_are_read_in_the_order_of_their_numbers() -> None:
    names = {f"OH_SESSION_API_KEYS_{number}": f"key-{number}" for number in (10, 0, 2)}
    config = Config.from_environ(names | {"OH_SESSION_API_KEYS_X": "no", "PATH": "/bin"})
    assert config.session_api_keys == ("key-0", "key-2", "key-10")
    assert config.secret_keys == ("key-0",)
    assert "key-0" not in repr(config)


def test_a_blank_key_never_opens_the_server() -> None:
    with pytest.raises(ConfigError, match="OH_SESSION_API_KEYS_0 is blank"):
        Config.from_environ({"OH_SESSION_API_KEYS_0": ""})


def test_the_default_keeps_nothing_on_disk() -> None:
    assert Config.from_environ({}).conversations_path is None
    assert Config.from_environ({"OH_CONVERSATIONS_PATH": "/x"}).conversations_path == Path("/x")
