"""The sample agent server: who may ask, what is refused, and its settings."""

from __future__ import annotations

import asyncio
import io
import json
import sys
from pathlib import Path

import aiohttp
import pytest

from proxy.demo.config import Config, ConfigError
from tests.demo.sampleagent import HEADERS, KEY, NOBODY, OTHER, agent
from tests.harness import ROOT, clean_environment

pytestmark = pytest.mark.slow


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


async def test_bad_requests_are_told_what_is_wrong(tmp_path: Path) -> None:
    async with agent(tmp_path) as server:
        ident = await server.create()
        create, say = "/api/conversations", f"/api/conversations/{ident}/events"
        cases: list[tuple[str, bytes, int, str]] = [
            (create, b"{", 400, "no JSON"),
            (create, b"\xff", 400, "no JSON"),
            (create, b"[" * 100_000, 400, "nested too deeply"),
            (create, b"[]", 422, "the body: must be an object"),
            (create, b'{"initial_message": 1}', 422, "initial_message: content must be"),
            (create, b'{"initial_message": {}}', 422, "initial_message: content must be"),
            (say, b"", 422, "the body: content must be"),
            (say, b'{"content": []}', 422, "content must be"),
            (say, b'{"content": [{"text": "a"}, {"image": 1}]}', 422, "content must be"),
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
    async with asyncio.timeout(60):
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
    async with asyncio.timeout(60):
        line = (await process.stderr.readline()).decode()
        address = line.split("listening on ")[1].split(",")[0]
        async with aiohttp.request("GET", f"http://{address}/health") as answer:
            assert answer.status == 200
        process.terminate()
        await process.communicate()
    assert process.returncode == 0


def test_keys_are_read_in_the_order_of_their_numbers() -> None:
    names = {f"OH_SESSION_API_KEYS_{number}": f"key-{number}" for number in (10, 0, 2)}
    config = Config.from_environ(names | {"OH_SESSION_API_KEYS_X": "no", "PATH": "/bin"})
    assert config.session_api_keys == ("key-0", "key-2", "key-10")
    assert "key-0" not in repr(config)


def test_a_blank_key_never_opens_the_server() -> None:
    with pytest.raises(ConfigError, match="OH_SESSION_API_KEYS_0 is blank"):
        Config.from_environ({"OH_SESSION_API_KEYS_0": ""})


def test_the_default_keeps_nothing_on_disk() -> None:
    assert Config.from_environ({}).conversations_path is None
    assert Config.from_environ({"OH_CONVERSATIONS_PATH": "/x"}).conversations_path == Path("/x")
