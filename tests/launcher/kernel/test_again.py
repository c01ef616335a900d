"""What was lost on the way to warm starts is tried again: fork servers and recordings."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from proxy.launcher.kernel.again import Again
from proxy.launcher.kernel.loop import Loop
from tests.launcher.launching import Launcher
from tests.launcher.warming import SERVE, Warm, base, write

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REST = 0.05  # seconds from the end of an upstream to the next recording

SERVER = f"""
import os, sys
import lib
if os.path.exists("broken"):
    sys.exit("broken")
{SERVE}
"""


@pytest.fixture
def app(tmp_path: Path) -> dict[str, Any]:
    write(tmp_path, {"app.py": SERVER, "lib.py": "X = 1"})
    return base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")


@pytest.fixture
def auto(tmp_path: Path) -> dict[str, Any]:
    """Preload terms that begin with a recording."""
    return {
        "modules": "auto",
        "names": ["APP_*"],
        "ready": {"address": f"unix:{tmp_path}/s.sock", "path": "/", "statuses": [200]},
        "timeout": 30,
        "rest": REST,
    }


def warmed(launcher: Launcher, times: int) -> None:
    """Await the event `warm` for the given number of times."""
    while len([event for event in launcher.events if event["event"] == "warm"]) < times:
        launcher.receive()


def test_a_fork_server_that_dies_while_it_waits_is_started_again(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        first = launcher.forkserver
        os.kill(first, signal.SIGKILL)
        assert "was killed by SIGKILL" in launcher.event("cold")["why"]
        warmed(launcher, 2)
        assert launcher.forkserver != first
        assert launcher.begin()["kind"] == "warm"
        launcher.stop(0)


def test_a_fork_server_that_dies_beside_its_upstream_is_there_for_the_next_start(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        before = launcher.forkserver
        running = launcher.begin()["pid"]
        os.kill(before, signal.SIGKILL)
        warmed(launcher, 2)
        os.kill(running, 0)
        launcher.stop(0)
        assert launcher.begin()["kind"] == "warm"
        launcher.stop(0)


def test_a_preload_that_fails_is_not_tried_again(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print(1)", "bad.py": "open('tried', 'a').write('x'); 1 / 0"})
    with Warm(base(tmp_path, "-m", "prog"), ["bad"]) as launcher:
        assert launcher.why is not None
        assert launcher.begin()["kind"] == "cold"
        launcher.finished()
    assert (tmp_path / "tried").read_text() == "x"


def test_a_recording_that_an_init_cut_short_is_made_when_nothing_runs_any_more(
    app: dict[str, Any], auto: dict[str, Any]
) -> None:
    with Launcher() as launcher:
        assert launcher.call("prepare", **app, preload=auto)["ok"]
        launcher.call("hasten")
        assert "cut short" in launcher.event("cold")["why"]
        launcher.call("stop", grace=0)  # as the proxy does, to be sure of the address
        answer = launcher.call("start", **app)
        assert answer["kind"] == "cold", answer
        launcher.line("serving")
        assert not [event for event in launcher.events if event["event"] == "warm"]
        launcher.stop(0)
        launcher.event("warm")
        assert launcher.call("start", **app)["kind"] == "warm"
        launcher.stop(0)


def test_a_recording_that_failed_is_made_again(
    tmp_path: Path, app: dict[str, Any], auto: dict[str, Any]
) -> None:
    (tmp_path / "broken").touch()
    with Launcher() as launcher:
        assert launcher.call("prepare", **app, preload=auto)["ok"]
        assert "exited with code 1" in launcher.event("cold")["why"]
        (tmp_path / "broken").unlink()
        launcher.event("warm")
        assert launcher.call("start", **app)["kind"] == "warm"
        launcher.stop(0)


@pytest.fixture
def loop() -> Iterator[Loop]:
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield Loop()
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_what_fails_time_and_again_is_given_up(loop: Loop) -> None:
    again = Again(loop, 0, 3)
    done: list[bool] = []

    def fail() -> None:
        done.append(again.soon(fail))

    fail()
    loop.run_until(lambda: done and not done[-1], 10)
    assert done == [True, True, True, False]
    again.reset()
    assert again.soon(fail)


def test_a_try_that_was_scheduled_can_be_called_off(loop: Loop) -> None:
    again = Again(loop, 0, 3)
    done: list[str] = []
    again.soon(lambda: done.append("first"))
    again.cancel()
    loop.later(0, lambda: done.append("other"))
    loop.run_until(lambda: done, 10)
    assert done == ["other"]


def test_nothing_is_recorded_beside_an_upstream_that_runs(
    app: dict[str, Any], auto: dict[str, Any]
) -> None:
    """Another controller may prepare otherwise than the one that has started it."""
    with Launcher() as launcher:
        assert launcher.call("prepare", **app)["ok"]
        assert launcher.start(**app)["ok"]
        launcher.event("output", line="serving")
        assert launcher.call("prepare", **app, preload=auto)["ok"]
        assert launcher.event("cold")["why"] == "a recording waits until nothing runs"
        assert not [event for event in launcher.events if event["event"] == "recording"]
        assert launcher.call("stop", grace=0)["ok"]
        warmed(launcher, 1)
        assert launcher.start(**app, env={"APP_KEY": "x"})["kind"] == "warm"
