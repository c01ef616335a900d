"""Which interpreter the launcher runs with, when the upstream's cannot run it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from proxy.activation.launched.own.process import LauncherProcess
from proxy.errors import LauncherError
from tests.activation.spawning import opened


def executable(path: Path, script: str) -> str:
    path.write_text("#!/bin/sh\nfor last; do :; done\n" + script)
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "script",
    [
        "exit 1",
        "echo no JSON >&$last; cat <&$last",
        'echo \'{"event": "hello", "version": 2, "pid": 1}\' >&$last; cat <&$last',
        "eval exec $last'>&-'; sleep 0",
    ],
    ids=["exits", "garbage", "other version", "hangs up"],
)
async def test_interpreter_that_cannot_run_the_launcher_gives_way_to_ours(
    tmp_path: Path, script: str
) -> None:
    python = executable(tmp_path / "python3", script)
    async with opened(tmp_path, command=[python, "-m", "server"]) as running:
        assert (
            Path(f"/proc/{running.launcher}/cmdline")
            .read_bytes()
            .startswith(sys.executable.encode() + b"\0")
        )
        assert (await (await running.start("true")).exited).code == 0


async def test_interpreter_that_says_nothing_is_given_up(tmp_path: Path) -> None:
    python = executable(tmp_path / "python3", "exec cat <&$last >/dev/null")
    process = LauncherProcess(python, dict(os.environ), lambda _: None)
    with pytest.raises(LauncherError, match=r"python3: no hello$"):
        await process.connect(limit=0.05)
    await process.end()
    assert process.reaped
    with pytest.raises(FileNotFoundError):
        LauncherProcess("/no/such/python", {}, lambda _: None)
