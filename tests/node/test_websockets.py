"""WebSockets of npm's `ws` through the running proxy, beside two libraries of Python's.

Needs `node` on PATH, and `ws` where NODE_PATH says.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import websockets
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import ProxyProcess, Serve

NODE_PATH = os.environ.get("NODE_PATH", "")
HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.node,
    pytest.mark.skipif(
        shutil.which("node") is None or not (Path(NODE_PATH) / "ws").is_dir(),
        reason="needs node, and ws in NODE_PATH",
    ),
]

SERVERS = {
    "ws": ("node", str(HERE / "server.cjs")),
    "websockets": (sys.executable, str(HERE / "server.py"), "websockets"),
    "aiohttp": (sys.executable, str(HERE / "server.py"), "aiohttp"),
}
SCENARIOS = (
    "plain",
    "deflate",
    "large",
    "subprotocol",
    "fragments",
    "pings",
    "closed",
    "closes",
    "refused",
    "bereft",
)


async def ready(serve: Serve, directory: Path, server: str, **upstream: Any) -> ProxyProcess:
    command = [*SERVERS[server], str(directory / "up.sock")]
    env = {"NODE_PATH": NODE_PATH}
    ready = {"path": "/"}
    proxy = await serve(command=command, env=env, ready=ready, profile="none", **upstream)
    assert (await proxy.init())[0] == 200
    return proxy


def url(proxy: ProxyProcess) -> str:
    return proxy.url.replace("http", "ws", 1)


@asynccontextmanager
async def node(scenario: str, proxy: ProxyProcess) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running client; killed at the end if it has not ended by then."""
    client = await asyncio.create_subprocess_exec(
        "node",
        str(HERE / "client.cjs"),
        scenario,
        url(proxy),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(20):
            yield client
    finally:
        with suppress(ProcessLookupError):
            client.kill()
        await client.wait()


async def connected(client: asyncio.subprocess.Process) -> None:
    assert client.stdout is not None
    assert await client.stdout.readline() == b"connected\n"


async def ended(proxy: ProxyProcess, *endings: tuple[int, str]) -> None:
    """Wait until the upstream has seen its WebSockets end like that."""
    wanted = [list(ending) for ending in endings]
    async with asyncio.timeout(20):
        while (seen := (await proxy.get("/"))[1]) != wanted:
            assert len(seen) < len(wanted) or seen == wanted, seen
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("server", SERVERS)
async def test_ws_as_client(serve: Serve, tmp_path: Path, server: str) -> None:
    proxy = await ready(serve, tmp_path, server)
    for scenario in SCENARIOS:
        async with node(scenario, proxy) as client:
            said, _ = await client.communicate()
        assert client.returncode == 0, f"{scenario}:\n{said.decode()}"
    assert [4000, "mine"] in (await proxy.get("/"))[1]


@pytest.mark.parametrize("server", SERVERS)
async def test_ws_as_client_that_is_killed(serve: Serve, tmp_path: Path, server: str) -> None:
    proxy = await ready(serve, tmp_path, server)
    async with node("waits", proxy) as client:
        await connected(client)
    await ended(proxy, (1006, ""))


@pytest.mark.parametrize("server", SERVERS)
async def test_ws_as_client_of_an_upstream_that_is_killed(
    serve: Serve, tmp_path: Path, server: str
) -> None:
    proxy = await ready(serve, tmp_path, server, on_exit="dormant")
    async with node("waits", proxy) as client:
        await connected(client)
        os.kill((await proxy.get("/api/init?details=true"))[1]["pid"], signal.SIGKILL)
        assert await client.wait() == 0
    await proxy.until("dormant")


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_ws_as_server_for_websockets(
    serve: Serve, tmp_path: Path, compression: str | None
) -> None:
    proxy = await ready(serve, tmp_path, "ws")
    offered = [Subprotocol("v0"), Subprotocol("v1")]
    async with connect(
        url(proxy), compression=compression, subprotocols=offered, max_size=2**25
    ) as socket:
        assert socket.subprotocol == "v1"
        assert bool(socket.protocol.extensions) == (compression is not None)
        for message in ("", "text \N{SNOWMAN}", "x" * 200_000, b"", os.urandom(2**24)):
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send("pieces")
        pieces = [piece async for piece in socket.recv_streaming()]
        assert pieces == ["one ", "two ", "three"]
        await socket.send(iter(["a", "", "b"]))
        assert await socket.recv() == "ab"
        async with asyncio.timeout(10):
            await (await socket.ping(b"payload"))
        await socket.send("ping")
        assert await socket.recv() == "pong from upstream"
        await socket.close(4000, "mine")
    assert (socket.close_code, socket.close_reason) == (4000, "mine")
    await ended(proxy, (4000, "mine"))


@pytest.mark.parametrize(
    ("order", "code", "reason"), [("close", 4321, "as asked"), ("die", 1006, "")]
)
async def test_ws_as_server_ends_a_websocket_of_websockets(
    serve: Serve, tmp_path: Path, order: str, code: int, reason: str
) -> None:
    proxy = await ready(serve, tmp_path, "ws")
    async with connect(url(proxy)) as socket:
        await socket.send(order)
        with pytest.raises(websockets.ConnectionClosed):
            await socket.recv()
    assert (socket.close_code, socket.close_reason or "") == (code, reason)


async def test_ws_as_server_refuses_websockets_with_a_body(serve: Serve, tmp_path: Path) -> None:
    proxy = await ready(serve, tmp_path, "ws")
    with pytest.raises(websockets.InvalidStatus) as caught:
        async with connect(url(proxy) + "/refuse"):
            pass
    assert caught.value.response.status_code == 403
    assert caught.value.response.body == b"not you"


async def test_ws_as_server_of_a_websockets_client_that_dies(serve: Serve, tmp_path: Path) -> None:
    proxy = await ready(serve, tmp_path, "ws")
    async with connect(url(proxy)) as socket:
        socket.transport.abort()
    await ended(proxy, (1006, ""))


@pytest.mark.parametrize("compress", [15, 0])
async def test_ws_as_server_for_aiohttp(serve: Serve, tmp_path: Path, compress: int) -> None:
    proxy = await ready(serve, tmp_path, "ws")
    async with proxy.session.ws_connect(
        url(proxy), compress=compress, max_msg_size=0, protocols=["v0", "v1"]
    ) as socket:
        assert socket.protocol == "v1"
        assert bool(socket.compress) == bool(compress)
        for text in ("", "text \N{SNOWMAN}", "x" * 200_000):
            await socket.send_str(text)
            assert await socket.receive_str() == text
        big = os.urandom(2**24)
        await socket.send_bytes(big)
        assert await socket.receive_bytes() == big
        await socket.send_str("pieces")
        assert await socket.receive_str() == "one two three"
        await socket.send_str("ping")
        assert await socket.receive_str() == "pong from upstream"
        await socket.send_str("close")
        closing = await socket.receive()
    expected = (aiohttp.WSMsgType.CLOSE, 4321, "as asked")
    assert (closing.type, closing.data, closing.extra) == expected
    await ended(proxy, (1000, ""))  # aiohttp does not answer with the code it was given
