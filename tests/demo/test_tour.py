from __future__ import annotations

import asyncio
import io
import os
import pty
import signal
import sys
from typing import TYPE_CHECKING

import pytest

from proxy.demo.sample import sample_settings_overrides
from proxy.demo.tour.terminal import Terminal
from proxy.processes import descendants
from proxy.server.starters import private_run_dir
from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

TOUR = (sys.executable, "-m", "proxy", "demo")


async def start(directory: Path, **env: str) -> asyncio.subprocess.Process:
    """The tour, with `directory` for everything temporary."""
    return await asyncio.create_subprocess_exec(
        *TOUR, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(TMPDIR=str(directory), **env),
    )  # fmt: skip


async def finish(process: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_the_tour_walks_the_whole_life_and_leaves_nothing(tmp_path: Path) -> None:
    # Settings of a developer's own must not change it.
    strange = {"PROXY_LISTEN__ADDRESS": "nonsense", "OH_DEFERRED_INIT": "false"}
    code, output = await finish(await start(tmp_path, **strange))
    assert code == 0, output
    place = 0
    for milestone in (
        "GET /health", '"dormant"', "503 ", "before any handshake", "401 ", "422 ", '"ready"',
        "400 ", "missing or wrong X-Session-API-Key", "201 ", "5 words", "server-sent", "1001",
        "gone", "Done in",
    ):  # fmt: skip
        place = output.find(milestone, place)
        assert place > 0, f"no {milestone} in its place:\n{output}"
    assert "\x1b" not in output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({"TERM": "xterm"}, True),
        ({"TERM": "xterm", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
    ],
)
def test_colour_is_for_terminals_that_want_it(
    monkeypatch: pytest.MonkeyPatch, env: dict[str, str], *, coloured: bool
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb"), os.fdopen(theirs, "w", encoding="utf-8") as out:
        Terminal(out).failure(0.001, "GET /", "a reason")
        assert (b"\x1b[" in os.read(ours, 4096)) is coloured


async def test_a_failing_tour_says_where_and_shows_the_log(tmp_path: Path) -> None:
    # A directory whose name leaves no room for a Unix socket: the agent cannot listen.
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    code, output = await finish(await start(deep))
    assert code == 1, output
    assert "FAILED" in output
    assert "log lines" in output
    assert "Unix socket" in output
    assert "Traceback" not in output
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_ends_the_tour_and_everything_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    process = await start(tmp_path)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        line = b""
        while b"GET /health" not in line:
            line = await process.stdout.readline()
            assert line, "the tour has ended before it"
    family = descendants(process.pid)
    assert len(family) > 1
    process.send_signal(number)
    code, output = await finish(process)
    assert (code, "Interrupted" in output) == (128 + number, True), output
    assert [member.pid for member in family if member.alive] == []
    assert list(tmp_path.iterdir()) == []


async def test_a_reader_that_goes_away_is_no_traceback(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    process = await asyncio.create_subprocess_exec(
        *TOUR, cwd=ROOT, stdout=writer, stderr=asyncio.subprocess.PIPE,
        env=clean_environment(TMPDIR=str(tmp_path)),
    )  # fmt: skip
    os.close(writer)
    os.close(reader)
    async with asyncio.timeout(60):
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (1, b"")
    assert list(tmp_path.iterdir()) == []


def test_a_servers_answer_cannot_steer_the_terminal() -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    Terminal(out).step(0.001, "GET /", "200 \x1b[2J\r\n\u202e é")
    out.seek(0)
    assert out.read().endswith("200 ?[2J??? ?\n")


async def test_descendants_are_found_until_they_are_gone() -> None:
    shell = await asyncio.create_subprocess_exec(
        "sh", "-c", "sleep 60 & echo; wait", stdout=asyncio.subprocess.PIPE
    )
    assert shell.stdout is not None
    await shell.stdout.readline()
    family = descendants(shell.pid)
    assert family[0].pid == shell.pid
    assert len(family) == 2
    assert all(member.alive for member in family)
    for member in family:
        os.kill(member.pid, signal.SIGKILL)
    await shell.wait()
    async with asyncio.timeout(60):
        while any(member.alive for member in family):
            await asyncio.sleep(0.01)
    assert descendants(shell.pid) == []


async def test_it_works_from_anywhere(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    process = await asyncio.create_subprocess_exec(
        *TOUR, cwd=elsewhere, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env=clean_environment(TMPDIR=str(tmp_path), PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path}"),
    )  # fmt: skip
    code, output = await finish(process)
    assert code == 0, output
    assert list(tmp_path.rglob("*")) == [elsewhere]


def test_the_sample_runs_in_a_private_place_of_its_own() -> None:
    assert private_run_dir() != private_run_dir()
    sample = sample_settings_overrides("/run/sample")
    assert sample["listen"] == {"address": "127.0.0.1:8000"}
    upstream = sample["upstream"]
    assert upstream["url"] == "http+unix:///run/sample/agent.sock"
    assert upstream["command"][1:] == [
        "-m", "proxy.demo.agent", "--unix", "/run/sample/agent.sock",
    ]  # fmt: skip
