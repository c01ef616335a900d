"""The end of an upstream, wanted or not: nothing of it may be alive afterwards."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.launcher.launching import Launcher, alive, encoded, killed_afterwards, until

# A process that takes a session of its own and loses its parent, as daemons do.
DAEMON = "(setsid sh -c 'echo daemon=$$; exec sleep 600' &)"

# Sessions within sessions, each the child of the one before, all deaf to TERM.
NESTED = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
for depth in range(5):
    if os.fork() == 0:
        os.setsid()
    else:
        break
os.write(1, f"nested{depth}={os.getpid()}\\n".encode())
time.sleep(600)
"""


def test_who_ignores_term_is_killed_when_the_grace_is_over() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "trap '' TERM; sh -c 'echo member=$$; sleep 600'; sleep 600")
        member = launcher.number("member")
        launcher.stop(grace=0.05)
        assert launcher.event("exit")["reason"] == "was killed by SIGKILL"
        assert not alive(member)


def test_a_frozen_upstream_is_thawed_to_end_in_good_order() -> None:
    with Launcher() as launcher:
        script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.01; done"
        pid = launcher.start("sh", "-c", script)["pid"]
        launcher.line("up")
        os.kill(pid, signal.SIGSTOP)
        launcher.stop(grace=20)
        assert launcher.event("exit")["code"] == 5


def test_members_of_the_group_have_the_grace_even_when_the_leader_ends_first(
    tmp_path: Path,
) -> None:
    gate, done = tmp_path / "gate", tmp_path / "done"
    member = f"trap 'until [ -e {gate} ]; do sleep 0.01; done; : > {done}; exit' TERM"
    script = f"({member}; echo up; while :; do sleep 0.01; done) & exec sleep 600"
    with Launcher() as launcher:
        launcher.start("sh", "-c", script)
        launcher.line("up")
        launcher.send(id=77, op="stop", grace=20)
        launcher.event("exit", reason="was killed by SIGTERM")
        gate.touch()
        assert launcher.answer(77)["ok"]
        assert done.exists()


@pytest.mark.parametrize("end", ["stop", "exit"])
def test_daemons_do_not_outlive_their_upstream(end: str) -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", f"{DAEMON}; sleep 600 & echo member=$!; read x; sleep 600")
        daemon, member = launcher.number("daemon"), launcher.number("member")
        with killed_afterwards(daemon, member):
            if end == "stop":
                launcher.stop()
            else:
                os.kill(launcher.children()[0], signal.SIGKILL)
                launcher.event("exit")
                launcher.start("true")
            assert not alive(daemon)
            assert not alive(member)


def test_daemons_of_a_dead_upstream_end_without_being_asked_for() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", f"{DAEMON}; sleep 600 & echo member=$!; exec sleep 600")
        daemon, member = launcher.number("daemon"), launcher.number("member")
        with killed_afterwards(daemon, member):
            os.kill(launcher.children()[0], signal.SIGKILL)
            until(lambda: not alive(daemon) and not alive(member))


def test_sessions_within_sessions_are_killed_to_the_last() -> None:
    with Launcher() as launcher:
        launcher.start(sys.executable, "-c", NESTED)
        pids = [launcher.number(f"nested{depth}") for depth in range(5)]
        with killed_afterwards(*pids):
            launcher.stop(grace=0.05)
            assert not any(alive(pid) for pid in pids)
            assert launcher.children() == []


def test_who_keeps_forking_away_is_killed_all_the_same() -> None:
    chain = "import os,sys\nwhile True:\n if os.fork(): os._exit(0)\n os.setsid()"
    with Launcher() as launcher:
        launcher.start("sh", "-c", f"{sys.executable} -c '{chain}' & echo up; exec sleep 600")
        launcher.line("up")
        launcher.stop()
        assert launcher.children() == []


def test_exit_is_told_while_a_grandchild_holds_the_pipes_open() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", f"{DAEMON}; sleep 600 & echo last words >&2; exit 7")
        exit_ = launcher.event("exit")
        assert exit_["code"] == 7
        assert exit_["tail"] == "last words"


def test_orphans_are_reaped_while_the_upstream_runs() -> None:
    orphans = "for i in 1 2 3 4 5 6 7 8 9; do (setsid true &); done"
    with Launcher() as launcher:
        leader = launcher.start("sh", "-c", f"{orphans}; echo done; exec sleep 600")["pid"]
        launcher.line("done")
        until(lambda: launcher.children() == [leader])
        assert alive(leader)


def test_a_later_stop_shortens_the_grace_of_a_running_one() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "trap '' TERM; echo up; while :; do sleep 600; done")
        launcher.line("up")
        launcher.send(id=101, op="stop", grace=600)
        launcher.send(id=102, op="stop", grace="no number")
        launcher.send(id=103, op="stop", grace=0)
        assert launcher.answer(101)["ok"]
        assert not launcher.answer(102)["ok"]
        assert launcher.answer(103)["ok"]


@pytest.mark.parametrize("number", [None, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_when_the_controller_or_a_signal_ends_the_launcher_nothing_is_left(
    tmp_path: Path, number: signal.Signals | None
) -> None:
    existing = tmp_path / "existing"
    existing.write_bytes(b"before")
    with Launcher() as launcher:
        files = [encoded(existing, b"x"), encoded(tmp_path / "new" / "file", b"x")]
        launcher.start(
            "sh", "-c", f"{DAEMON}; exec sleep 600", files=files, run_dir=str(tmp_path / "run")
        )
        daemon, leader = launcher.number("daemon"), launcher.children()[0]
        with killed_afterwards(daemon, leader):
            if number is None:
                launcher.hang_up()
            else:
                launcher.process.send_signal(number)
                assert launcher.event("exit")["code"] == 143
            assert launcher.process.wait(60) == 0
            assert not alive(daemon)
            assert not alive(leader)
    assert [path.name for path in tmp_path.iterdir()] == ["existing"]
    assert existing.read_bytes() == b"before"
    assert launcher.stderr == ""


def test_a_second_signal_to_the_launcher_cuts_the_grace_short() -> None:
    with Launcher() as launcher:
        launcher.call("prepare", argv=["x"], base_unset=[], grace=600)
        launcher.start("sh", "-c", "trap 'echo term' TERM; echo up; while :; do sleep 0.01; done")
        launcher.line("up")
        launcher.process.terminate()
        launcher.line("term")
        launcher.process.terminate()
        assert launcher.process.wait(60) == 0


def test_upstream_does_not_outlive_a_killed_launcher() -> None:
    with Launcher() as launcher:
        pid = launcher.start("sleep", "600")["pid"]
        with killed_afterwards(pid):
            launcher.process.kill()
            until(lambda: not alive(pid))


def test_a_suspended_upstream_is_killed_when_the_grace_is_over() -> None:
    with Launcher() as launcher:
        pid = launcher.start("sh", "-c", "kill -STOP $$")["pid"]
        until(lambda: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        launcher.stop(grace=0.05)
        assert not alive(pid)
