"""`Expect` at the control plane: the one that means something, and what a stranger puts there."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.harness import KEY, echo_settings
from tests.relay.raw.peers import Wire, message

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


async def sent(proxy: ProxyProcess, request: bytes) -> Wire:
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    return await Wire(*await asyncio.open_connection(host, int(port))).send(request)


@pytest.mark.parametrize("line", [b"GET /health", b"DELETE /health", b"GET /api/init"])
async def test_strange_expectation_is_no_fault_of_ours(
    line: bytes, serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(echo_settings(tmp_path))
    for strange in (b"\xff", b"200-ok"):
        client = await sent(proxy, message(line + b" HTTP/1.1", b"Host: a", b"Expect: " + strange))
        head, body = await client.response()
        assert head.startswith(b"HTTP/1.1 405 " if line.startswith(b"DELETE") else b"HTTP/1.1 200 ")
        assert body.startswith(b"{")
        client.close()
    assert not any(entry["level"] == "error" for entry in proxy.log)


async def test_body_of_an_init_is_asked_for_when_its_sender_waits_for_that(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(echo_settings(tmp_path))
    fields = (
        b"Host: a", b"Expect: 100-Continue", b"Content-Length: 2",
        b"X-Init-API-Key: " + KEY.encode(),
    )  # fmt: skip
    client = await sent(proxy, message(b"POST /api/init HTTP/1.1", *fields))
    assert (await client.head()).startswith(b"HTTP/1.1 100 ")
    await client.send(b"{}")
    assert (await client.head()).startswith(b"HTTP/1.1 200 ")
    client.close()
