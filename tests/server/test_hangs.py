"""An upstream that hangs, and one that the kernel kills for want of memory: noticed, and named."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from tests.running import activated, until_dead

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_a_server_that_hangs_is_killed_and_started_again(serve: Serve) -> None:
    proxy = await activated(
        serve, alive={"path": "/any", "interval": 0.1, "failures": 2}, stop_grace=600
    )
    hanging = (await proxy.get("/api/self"))[1]["pid"]
    os.kill(hanging, signal.SIGSTOP)
    line = await proxy.logged(lambda line: line["message"] == "the upstream hangs")
    assert "did not answer within 0.1 s" in line["error"]
    await until_dead(hanging)
    died = await proxy.logged(lambda line: line["message"] == "the upstream died")
    assert died["error"].startswith("the upstream hung and was killed: ")
    await proxy.until("ready")
    assert (await proxy.get("/api/self"))[1]["pid"] != hanging


@pytest.fixture
def small() -> Iterator[Path]:
    """A memory cgroup with little room, of whichever version this machine has."""
    root = Path("/sys/fs/cgroup")
    if (root / "memory").is_dir():
        group, limit = root / "memory" / f"small-{os.getpid()}", "memory.limit_in_bytes"
    else:
        (root / "cgroup.subtree_control").write_text("+memory")
        group, limit = root / f"small-{os.getpid()}", "memory.max"
    group.mkdir()
    (group / limit).write_text(str(256 * 2**20))
    yield group
    group.rmdir()


@pytest.mark.skipif(os.geteuid() != 0, reason="a cgroup needs root")
async def test_an_out_of_memory_kill_is_named(serve: Serve, small: Path) -> None:
    enter = f'echo $$ > {small}/cgroup.procs; exec "$@"'
    proxy = await activated(serve, prefix=["sh", "-c", enter, "sh"])
    with suppress(aiohttp.ClientError):
        await proxy.get("/api/eat?mebibytes=512")
    died = await proxy.logged(lambda line: line["message"] == "the upstream died")
    assert died["error"].startswith("the upstream was killed by SIGKILL, out of memory")
    await proxy.stop()
    async with asyncio.timeout(60):
        while (small / "cgroup.procs").read_text():
            await asyncio.sleep(0.01)
