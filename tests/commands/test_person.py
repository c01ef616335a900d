"""init and status as a person at a terminal and a script see them."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import sys
from typing import TYPE_CHECKING

import pytest

from tests.client.orchestrated import scripted
from tests.client.test_claims import forwarder
from tests.commands.test_commands import command, spawn
from tests.harness import KEY, ROOT, clean_environment

if TYPE_CHECKING:
    from tests.harness import Serve

pytestmark = pytest.mark.slow

WITH_KEY = {"OH_SECRET_KEY": KEY}


async def at_a_terminal(*arguments: str, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Exit code, and everything the terminal was sent."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments, cwd=ROOT, env=clean_environment(**(env or {})),
        stdin=asyncio.subprocess.DEVNULL, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    text = await asyncio.to_thread(read_terminal, ours)
    return await process.wait(), text


def read_terminal(descriptor: int) -> str:
    read = b""
    try:
        while data := os.read(descriptor, 65536):
            read += data
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(descriptor)
    return read.decode()


async def test_a_person_sees_words_and_a_script_sees_json(serve: Serve) -> None:
    proxy = await serve()
    where = ["--url", proxy.url]
    code, text = await at_a_terminal("init", *where, env=WITH_KEY)
    assert code == 0
    assert "\x1b[K" in text  # a line that moves
    assert text.rstrip().endswith("ready")
    code, text = await at_a_terminal("status", *where)
    assert code == 0
    assert text.startswith("ready; since ")
    assert "cold start" in text
    assert "pid " in text
    code, text = await at_a_terminal("status", "--json", *where)
    assert (code, json.loads(text)) == (0, {"state": "ready", "error": None})


async def test_json_tells_the_outcome_whatever_it_is(serve: Serve) -> None:
    proxy = await serve()
    base = ["init", "--json", "--claim", "one", "--url", proxy.url]
    failed = await command(*base, "--env", "ECHO_EXIT=3", env=WITH_KEY)
    outcome = json.loads(failed.out)
    assert (failed.code, outcome["state"], outcome["http_status"]) == (1, "dormant", 500)
    assert "exited with code 3" in outcome["error"]
    for _ in range(2):  # the same claim again is answered again
        done = await command(*base, env=WITH_KEY)
        outcome = json.loads(done.out)
        assert (done.code, done.err) == (0, "")
        assert outcome.pop("seconds") > 0
        assert outcome == {"state": "ready", "error": None, "http_status": 200, "claim": "one"}
    other = await command("init", "--json", "--url", proxy.url, env=WITH_KEY)
    outcome = json.loads(other.out)
    assert (other.code, outcome["state"], outcome["http_status"]) == (1, None, 409)
    nobody = await command("init", "--json", "--url", "http+unix:///nonexistent")
    outcome = json.loads(nobody.out)
    assert (nobody.code, outcome["http_status"], nobody.err) == (1, None, "")


async def test_a_lost_answer_is_told_and_asked_for_again(serve: Serve) -> None:
    proxy = await serve()
    # The progress has a connection of its own, so it cannot be cut here.
    async with forwarder(proxy.url, cuts=1) as between:
        done = await command(
            *("init", "--json", "--url", between.url, "--env", "A=1"), env=WITH_KEY
        )
    assert (done.code, json.loads(done.out)["state"]) == (0, "ready")
    assert (await proxy.get("/api/init?details=true"))[1]["attempt"] == 1


async def test_progress_names_the_phases() -> None:
    async with scripted() as server:
        server.let_go.clear()
        process = await spawn("init", "--url", server.url)
        assert process.stderr is not None
        # The next phase begins when the one before has been told.
        for phase in ("start (starting the server)", "probe (waiting until it is ready)"):
            line = b""
            async with asyncio.timeout(60):
                await server.asked.wait()
                server.status = {"state": "initializing", "error": None, "phase": phase.split()[0]}
                while f"initializing: {phase}" not in line.decode():
                    line = await process.stderr.readline()
                    assert line, "it has ended without a word of it"
        server.let_go.set()
        async with asyncio.timeout(60):
            out, _ = await process.communicate()
    assert (process.returncode, json.loads(out)["state"]) == (0, "ready")


async def test_a_watch_is_told_by_the_proxy_and_ends_with_it(serve: Serve) -> None:
    proxy = await serve()
    process = await spawn("status", "--watch", "--url", proxy.url)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        assert json.loads(await process.stdout.readline())["state"] == "dormant"
        await proxy.init()
        assert json.loads(await process.stdout.readline())["state"] == "initializing"
        assert json.loads(await process.stdout.readline())["state"] == "ready"
        await proxy.stop()
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: cannot connect")


async def test_an_interrupted_person_is_told_how_to_ask_again() -> None:
    async with scripted() as server:
        server.let_go.clear()
        process = await spawn("init", "--claim", "mine", "--url", server.url)
        async with asyncio.timeout(60):
            await server.asked.wait()
            process.send_signal(2)
            _, err = await process.communicate()
    assert process.returncode == 130
    assert b"interrupted; an activation that has begun goes on\n" in err
    assert b"--claim mine" in err
