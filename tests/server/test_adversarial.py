"""Callers and neighbours who mean harm, or do it without meaning to."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness import ECHO, KEY, echo_settings
from tests.running import DORMANT, READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


def exchange(proxy: ProxyProcess, request: bytes) -> bytes:
    """What the proxy answers to these bytes, until it closes the connection."""
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=60) as sock:
        sock.sendall(request)
        answer = b""
        while data := sock.recv(65536):
            answer += data
    return answer


async def answer(proxy: ProxyProcess, request: bytes) -> tuple[int, dict[str, object], bytes]:
    """Status, JSON body and head of the answer to a request that ends its connection."""
    raw = await asyncio.to_thread(exchange, proxy, request)
    head, _, body = raw.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body), head


def control_request(line: str, *fields: str, body: bytes = b"") -> bytes:
    head = [line + " HTTP/1.1", "Host: proxy", "Connection: close", *fields]
    if body:
        head.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*head, "", ""]).encode() + body


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "gzip, gzip", "nonsense"])
async def test_an_encoded_init_body_is_415_and_is_not_decoded(serve: Serve, coding: str) -> None:
    proxy = await serve()
    body = gzip.compress(b"{}")
    fields = [f"X-Init-API-Key: {KEY}", f"Content-Encoding: {coding}"]
    status, said, _ = await answer(proxy, control_request("POST /api/init", *fields, body=body))
    assert status == 415
    assert "Content-Encoding" in str(said["detail"])
    status, _, _ = await answer(proxy, control_request("POST /api/init", fields[1], body=body))
    assert status == 401
    assert await proxy.get("/api/init") == (200, DORMANT)


async def test_a_target_as_long_as_the_relay_allows_is_answered(serve: Serve) -> None:
    proxy = await serve()
    status, said, _ = await answer(proxy, control_request("GET /api/init?x=" + "a" * 16000))
    assert (status, said) == (200, DORMANT)


async def test_what_cannot_be_read_is_answered_in_json_without_our_versions(serve: Serve) -> None:
    proxy = await serve()
    # A field twice that may be given once: fine with the relay, a fault to aiohttp.
    twice = ("Content-Type: text/plain", "Content-Type: application/json")
    status, said, head = await answer(proxy, control_request("GET /health", *twice))
    assert status == 400
    assert "malformed" in str(said["detail"])
    assert b"aiohttp" not in head
    assert b"Python" not in head
    await proxy.stop()
    assert not [line for line in proxy.log if line["level"] in {"error", "critical"}]


async def test_a_stranger_at_the_upstreams_address_is_never_taken_for_it(
    serve: Serve, tmp_path: Path
) -> None:
    taken = tmp_path / "taken.sock"
    stranger = await asyncio.create_subprocess_exec(sys.executable, str(ECHO), "--unix", str(taken))
    try:
        async with asyncio.timeout(60):
            while not taken.exists():
                await asyncio.sleep(0.01)
        proxy = await serve(url=f"http+unix://{taken}", command=["sleep", "600"])
        status, said = await proxy.init({"session_api_keys": ["the-users-key"]})
        assert status == 500
        assert f"process {stranger.pid} listens" in said["error"]
        assert (await proxy.get("/api/self"))[0] == 503
    finally:
        stranger.kill()
        await stranger.wait()


# Answers its first probe and is gone, whatever else was asked.
ONCE = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
client, _ = server.accept()
client.recv(9999)
os.unlink(sys.argv[1])
client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
os._exit(9)
"""


async def test_an_upstream_that_dies_once_ready_leaves_no_doubt_about_the_init(
    serve: Serve, tmp_path: Path
) -> None:
    command = [sys.executable, "-S", "-c", ONCE, str(tmp_path / "up.sock")]
    proxy = await serve(command=command, on_exit="dormant")
    for _ in range(20):
        status, said = await proxy.init()
        # Ready for a moment, or never: both may happen, a third may not.
        assert (status, said) == (200, READY) or (status, said["state"]) == (500, "dormant"), said
        await proxy.until("dormant")
        assert "exited with code 9" in (await proxy.get("/api/init"))[1]["error"]


# Seconds: a deadline that an activation is to miss, long enough for its upstream to start before.
DEADLINE = 3

GARBAGE = """
import os, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[1])
server.listen()
while True:
    client, _ = server.accept()
    client.recv(9999)
    client.sendall(os.environ["TOKEN"].encode("utf-16"))
    client.close()
"""


async def test_an_upstream_that_speaks_no_http_is_not_quoted(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["timeout"] = DEADLINE
    path = tmp_path / "up.sock"
    settings["upstream"]["command"] = [sys.executable, "-S", "-c", GARBAGE, str(path)]
    proxy = await serve(settings)
    status, said = await proxy.init({"env": {"TOKEN": "a-token-of-the-user"}})
    assert status == 504
    assert "no HTTP answer" in said["error"]
    assert "\\x00" not in proxy.text + json.dumps(said)


async def test_a_missed_deadline_is_told_with_the_upstreams_last_words(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["timeout"] = DEADLINE
    words = "echo waiting for $TOKEN >&2; exec sleep 600"
    settings["upstream"]["command"] = ["sh", "-c", words]
    proxy = await serve(settings)
    status, said = await proxy.init({"env": {"TOKEN": "a-token-of-the-user"}})
    assert status == 504
    assert said["error"].endswith("; stderr ends: waiting for ***")
    assert await proxy.get("/api/init") == (200, said)


async def test_a_failure_after_the_poster_has_left_is_reported_once(
    serve: Serve, tmp_path: Path
) -> None:
    fails = tmp_path / "fails"
    until_it_fails = f"until [ -e {fails} ]; do sleep 0.02; done; exit 3"
    proxy = await serve(command=["sh", "-c", until_it_fails])
    request = control_request("POST /api/init", f"X-Init-API-Key: {KEY}", body=b"{}")
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port))) as poster:
        poster.sendall(request)
        await proxy.until("initializing")
    fails.touch()
    await proxy.until("dormant")
    assert "exited with code 3" in (await proxy.get("/api/init"))[1]["error"]
    await proxy.stop()
    assert len([line for line in proxy.log if line["level"] == "error"]) == 1, proxy.text
