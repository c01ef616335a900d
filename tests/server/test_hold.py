"""`gate.hold` on the real proxy: what comes while the upstream starts waits for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from tests.harness import echo_settings
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow

HELD = 1000


async def starting(
    serve: Serve, tmp_path: Path, hold: float = 60
) -> tuple[ProxyProcess, asyncio.Task[tuple[int, object]]]:
    """A proxy whose upstream is ready as soon as the file `ready` is there, and its init."""
    settings = echo_settings(tmp_path, ready={"path": "/api/file", "interval": 0.05})
    settings["gate"] = {"hold": hold}
    proxy = await serve(settings)
    assert (await proxy.get("/early"))[0] == 503  # nothing is on its way yet
    body = {"env": {"ECHO_READ_FILE": str(tmp_path / "ready")}}
    init = asyncio.create_task(proxy.init(body))
    await proxy.until("initializing")
    return proxy, init


async def test_a_thousand_held_requests_are_all_answered(serve: Serve, tmp_path: Path) -> None:
    proxy, init = await starting(serve, tmp_path)
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")

    async def ask(number: int) -> bytes:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % number)
        sent.release()
        answer = await reader.read()
        writer.close()
        return answer

    sent = asyncio.Semaphore(0)
    async with asyncio.timeout(60):
        tasks = [asyncio.create_task(ask(number)) for number in range(HELD)]
        for _ in range(HELD):
            await sent.acquire()
        assert (await proxy.get("/api/init"))[1]["state"] == "initializing"
        assert not any(task.done() for task in tasks)
        (tmp_path / "ready").touch()
        answers = await asyncio.gather(*tasks)
        assert await init == (200, READY)
    for number, answer in enumerate(answers):
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"GET /%d HTTP/1.1" % number in answer


async def test_held_request_is_refused_when_the_init_fails(serve: Serve, tmp_path: Path) -> None:
    fails = tmp_path / "fails"
    until_it_fails = ["sh", "-c", f"until [ -e {fails} ]; do sleep 0.02; done; exit 3"]
    settings = echo_settings(tmp_path, command=until_it_fails)
    settings["gate"] = {"hold": 600}
    proxy = await serve(settings)
    init = asyncio.create_task(proxy.init())
    await proxy.until("initializing")
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    async with asyncio.timeout(60):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /held HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        # It has been read by the time that a later one is answered.
        assert await proxy.state() == "initializing"
        fails.touch()
        assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
        writer.close()
    assert (await init)[0] == 500


async def test_held_request_is_refused_when_its_time_is_up(serve: Serve, tmp_path: Path) -> None:
    proxy, init = await starting(serve, tmp_path, hold=0.1)
    assert (await proxy.get("/held"))[0] == 503
    (tmp_path / "ready").touch()
    assert await init == (200, READY)


async def test_shutdown_refuses_what_is_held(serve: Serve, tmp_path: Path) -> None:
    proxy, init = await starting(serve, tmp_path)
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    async with asyncio.timeout(60):
        held = [await asyncio.open_connection(host, int(port)) for _ in range(3)]
        for _, writer in held:
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        # They have been read by the time that a later one is answered.
        assert (await proxy.get("/api/init"))[1]["state"] == "initializing"
        proxy.process.terminate()
        for reader, writer in held:
            assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
            writer.close()
    assert (await init)[0] == 503
    assert await proxy.ended() == 0
