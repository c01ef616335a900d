"""Callers and neighbours who mean harm, or do it without meaning to."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from typing import TYPE_CHECKING

import pytest

from tests.harness import KEY
from tests.test_contract_live import DORMANT

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve


def exchange(proxy: ProxyProcess, request: bytes) -> bytes:
    """What the proxy answers to these bytes, until it closes the connection."""
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as sock:
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
