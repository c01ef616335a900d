"""Where nothing can be written: what needs nothing works, and what does says where else."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness import ECHO, KEY
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root"),
]

READ_ONLY = """\
set -e
mount --make-rprivate /
awk '{ print $5 }' /proc/self/mountinfo | grep -v -E '^/(proc|sys|dev)' | while read -r place; do
    mount -o remount,bind,ro "$place" || true  # some cannot be
done
mount -t tmpfs -o ro none /dev/shm
exec "$@"
"""


@pytest.mark.parametrize("profile", ["none", "openhands"])
async def test_nothing_writable(
    serve: Serve, tmp_path: Path, unused_tcp_port: int, profile: str
) -> None:
    settings = {
        "deferred_init": True,
        "listen": {"address": "127.0.0.1:0", "admin": None},
        "init": {"key": KEY},
        "upstream": {
            "url": f"http://127.0.0.1:{unused_tcp_port}",
            "command": [sys.executable, str(ECHO), "--port", str(unused_tcp_port)],
            "profile": profile,
            "preload": {"modules": "auto"},
        },
    }
    prefix = ["unshare", "--mount", "sh", "-c", READ_ONLY, "sh"]
    proxy = await serve(settings, prefix=prefix, env={"PYTHONDONTWRITEBYTECODE": "1"})
    line = await proxy.logged(lambda line: line["message"] == "starts will be cold")
    assert "TMPDIR names one" in line["reason"]
    answer = await proxy.init({"env": {"A": "b"}})
    if profile == "none":
        assert answer == (200, READY)
    else:
        assert answer[0] == 500
        assert "Read-only file system; upstream.run_dir names another place" in answer[1]["error"]
    assert await proxy.stop() == 0


async def test_sample_agent_without_a_place_for_its_socket_names_the_setting() -> None:
    served = await asyncio.create_subprocess_exec(
        *(
            "unshare",
            "--mount",
            "sh",
            "-c",
            READ_ONLY,
            "sh",
            sys.executable,
            "-m",
            "proxy",
            "serve",
        ),
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "PROXY_LISTEN__ADDRESS": "127.0.0.1:0"},
        stderr=asyncio.subprocess.PIPE,
    )
    assert served.stderr is not None
    said = await served.stderr.readuntil(b"Read-only file system; upstream.run_dir names another")
    assert b"Traceback" not in said
    served.terminate()
    await served.communicate()
    assert served.returncode == 0
