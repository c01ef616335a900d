"""The orchestrator's client against a real server whose answers are scripted."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing
from typing import TYPE_CHECKING

import pytest

from proxy.client import (
    ActivationFailedError,
    AnswerError,
    ClientError,
    InitClient,
    InitStatus,
    RefusedError,
    UnavailableError,
    UnreachableError,
)
from tests.client.orchestrated import Scripted, scripted
from tests.harness import KEY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.harness import Serve


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


@pytest.fixture
def nobody() -> Iterator[str]:
    """A URL whose port is taken and never listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


async def test_a_whole_claim_against_the_proxy_itself(serve: Serve) -> None:
    proxy = await serve()
    async with InitClient(proxy.url, "wrong") as client:
        with pytest.raises(RefusedError) as caught:
            await client.init({})
        assert caught.value.http_status == 401
    async with InitClient(proxy.url, KEY) as client:
        assert await client.status() == InitStatus("dormant")
        with pytest.raises(RefusedError, match="zzz"):
            await client.init({"zzz": 1})
        assert await client.init({"env": {"A": "1"}}) == InitStatus("ready")
        assert (await client.wait_for("ready", timeout=60)).error is None
        assert (await client.status(details=True)).details["attempt"] == 1
        with pytest.raises(RefusedError, match="ready"):
            await client.init({})


async def test_the_key_is_sent_with_an_init_and_with_nothing_else(server: Scripted) -> None:
    async with InitClient(server.url, "k") as client:
        await client.status(details=True)
        await client.init({"web_url": "http://x"})
    (get, post) = server.seen
    assert get[:2] == ("GET", "/api/init?details=true")
    assert "X-Init-API-Key" not in get[2]
    assert post[2]["X-Init-API-Key"] == "k"
    assert post[3] == {"web_url": "http://x"}


async def test_a_unix_socket_is_reached_by_its_path(tmp_path: Path) -> None:
    async with scripted(tmp_path / "p.sock") as server, InitClient(server.url) as client:
        assert (await client.init()).state == "ready"


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (401, {"detail": "wrong key"}, RefusedError, "wrong key (HTTP 401)"),
        (404, {"detail": "not deferred"}, RefusedError, "not deferred (HTTP 404)"),
        (422, {"detail": [{"loc": ["x"]}]}, RefusedError, '[{"loc": ["x"]}] (HTTP 422)'),
        (503, {"detail": "shutting down"}, UnavailableError, "shutting down (HTTP 503)"),
        (500, {"state": "dormant", "error": "boom"}, ActivationFailedError, "boom (HTTP 500)"),
        (504, {"state": "dormant", "error": "late"}, ActivationFailedError, "late (HTTP 504)"),
        (500, {"detail": "internal"}, AnswerError, "internal (HTTP 500)"),
        (502, b"<html>bad gateway</html>", AnswerError, "did not answer as /api/init does"),
        (200, {"state": "odd"}, AnswerError, "did not answer as /api/init does"),
        (200, b"[" * 200_000, AnswerError, "did not answer as /api/init does"),
        (200, b'"' + b"x" * 2_000_000, AnswerError, "did not answer as /api/init does"),
        (307, b"", AnswerError, "did not answer as /api/init does"),
    ],
)
async def test_an_error_carries_the_status_and_the_servers_own_words(
    server: Scripted, status: int, body: object, kind: type[AnswerError], text: str
) -> None:
    server.answer = status, body
    server.headers = {"Retry-After": "3", "Location": "/elsewhere"}
    async with InitClient(server.url) as client:
        with pytest.raises(AnswerError) as caught:
            await client.init({})
    assert type(caught.value) is kind
    assert caught.value.http_status == status
    assert text in str(caught.value)
    if isinstance(caught.value, UnavailableError):
        assert caught.value.retry_after == 3
    if isinstance(caught.value, ActivationFailedError):
        assert caught.value.left.state == "dormant"


async def test_nobody_there(nobody: str, tmp_path: Path) -> None:
    for url, cause in ((nobody, "Connection refused"), (f"http+unix://{tmp_path}/x", "No such fi")):
        async with InitClient(url) as client:
            with pytest.raises(UnreachableError, match=cause):
                await client.status()


async def test_a_server_without_tls(server: Scripted) -> None:
    async with InitClient(server.url.replace("http://", "https://")) as client:
        with pytest.raises(UnreachableError, match="it speaks no TLS, or its certificate"):
            await client.status()


async def test_a_connection_that_ends_before_the_answer_is_no_success() -> None:
    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"state": "ready"')
        writer.close()

    listener = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with listener, InitClient(f"http://127.0.0.1:{_port(listener)}") as client:
        with pytest.raises(UnreachableError, match="lost"):
            await client.init({})


async def test_an_impatient_caller_stops_waiting(server: Scripted) -> None:
    server.let_go.clear()
    async with InitClient(server.url) as client:
        with pytest.raises(UnreachableError, match="did not answer in time"):
            await client.init({}, timeout=1)
        assert (await client.status()).state == "initializing"


async def test_wait_for_a_server_that_is_not_up_yet() -> None:
    async with scripted() as first:
        port = int(first.url.rpartition(":")[2])
    async with InitClient(first.url) as client:
        waiting = asyncio.create_task(client.wait_for("ready", timeout=60, interval=0.01))
        async with scripted(port=port) as server:
            while not server.gets:
                await asyncio.sleep(0.01)
            assert not waiting.done()
            server.status = {"state": "ready", "error": None}
            assert (await waiting).state == "ready"


async def test_waiting_in_vain_ends_with_what_was_seen_last(server: Scripted, nobody: str) -> None:
    server.status = {"state": "dormant", "error": "no luck"}
    async with InitClient(server.url) as client:
        with pytest.raises(ClientError, match=r"was not ready within 1 s; it is dormant: no luck"):
            await client.wait_for("ready", timeout=1, interval=0.01)
    async with InitClient(nobody) as client:
        with pytest.raises(ClientError, match=r"was not ready .*; cannot connect"):
            await client.wait_for("ready", timeout=1, interval=0.01)


async def test_waiting_for_a_server_without_deferred_init_ends_at_once() -> None:
    async with scripted() as server, InitClient(server.url) as client:
        server.status = {"detail": "no"}
        with pytest.raises(AnswerError):
            await client.wait_for("ready", timeout=60)


async def test_every_change_is_told_once(server: Scripted) -> None:
    async with (
        InitClient(server.url) as client,
        aclosing(client.changes(details=True, interval=0.001)) as changes,
    ):
        assert (await anext(changes)).state == "dormant"
        waiting = asyncio.ensure_future(anext(changes))
        before = server.gets
        while server.gets < before + 3:
            await asyncio.sleep(0.001)
        assert not waiting.done()
        server.status = {"state": "initializing", "error": None, "phase": "probe"}
        assert (await waiting).details == {"phase": "probe"}
        server.status = {"state": "dormant", "error": "boom"}
        assert (await anext(changes)).error == "boom"


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8000", "ftp://x", "http://", "http://x:y", "http://x:0", "http://[::1"),
        *("http://x/api/init", "http://x?y", "http+unix://run/x", "http+unix:/x"),
    ],
)
def test_a_url_that_cannot_be_used(url: str) -> None:
    with pytest.raises(ClientError, match="cannot use the URL"):
        InitClient(url)


def test_a_password_in_a_url_is_refused_and_not_repeated() -> None:
    with pytest.raises(ClientError) as caught:
        InitClient("http://u:s3cret@x")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("key", ["s3cret\n", " s3cret", "s3\r\ncret: x"])
def test_a_key_that_no_header_carries_is_refused_and_not_repeated(key: str) -> None:
    with pytest.raises(ClientError, match="cannot use the key") as caught:
        InitClient("http://x", key)
    assert "s3cret" not in str(caught.value)


def _port(listener: asyncio.Server) -> int:
    return int(listener.sockets[0].getsockname()[1])
