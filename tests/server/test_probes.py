"""Probes of a real proxy are answered whatever clients do."""

from __future__ import annotations

import asyncio
import resource
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.server.process import Room, room_in
from tests.harness import echo_settings
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

PROBES = ("/health", "/ready", "/api/init")


@pytest.mark.parametrize("descriptors", [0, 64, 128, 256, 1024, 4096, 2**20])
def test_what_is_allowed_never_takes_more_descriptors_than_there_are(descriptors: int) -> None:
    room = room_in(descriptors, 10_000)
    assert 1 <= room.connections <= 10_000
    if descriptors >= 128:
        assert 64 + 4 * room.connections + 3 * room.places <= descriptors


def test_with_enough_descriptors_all_are_allowed() -> None:
    assert room_in(2**20, 10_000) == Room(10_000, 64)


@pytest.mark.slow
async def test_a_flood_that_takes_every_descriptor_takes_none_from_probes(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path)
    settings["listen"]["admin"] = f"unix:{tmp_path / 'admin.sock'}"
    proxy = await serve(settings, prefix=["prlimit", "--nofile=256:256"])
    assert await proxy.init({}) == (200, READY)
    await proxy.logged(lambda line: line.get("message") == "admin listening")
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    flood = [await asyncio.open_connection(host, int(port)) for _ in range(min(600, hard // 2))]
    for path in PROBES * 3:
        assert (await proxy.get(path))[0] == 200
        assert (await proxy.get("/api/self"))[0] == 503
    await _admin_answers(proxy, tmp_path)
    for _, writer in flood:
        writer.close()
    await proxy.logged(lambda line: "below their limit" in line["message"])
    assert (await proxy.get("/api/self"))[0] == 200
    assert sum("limit" in line["message"] for line in proxy.log) == 3  # clamped, met and over


async def _admin_answers(proxy: ProxyProcess, tmp_path: Path) -> None:
    """Also behind more connections than it takes itself."""
    path = str(tmp_path / "admin.sock")
    idle = [await asyncio.open_unix_connection(path) for _ in range(40)]
    connector = aiohttp.UnixConnector(path)
    async with aiohttp.ClientSession("http://admin", connector=connector) as session:
        for probe in ("/health", "/ready"):
            async with session.get(probe) as answer:
                assert answer.status == 200
        async with session.get("/metrics") as answer:
            text = await answer.text()
    assert "deferred_init_relay_connection_limit 39.0" in text
    assert "deferred_init_relay_late_connections_total" in text
    assert proxy.process.returncode is None
    for _, writer in idle:
        writer.close()
