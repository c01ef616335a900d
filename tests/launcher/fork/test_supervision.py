"""Whatever dies when: one upstream, with the environment it was given, or a start that fails."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.launcher.launching import alive, until
from tests.launcher.warming import Warm, base, write

pytestmark = pytest.mark.slow

PROGRAM = "import os, time; print(os.environ['KEY'], os.getpid(), flush=True); time.sleep(600)"


def upstreams(launcher: Warm) -> list[int]:
    """The launcher's children that run the program."""
    found = []
    for pid in launcher.children():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"prog" in command and alive(pid):
            found.append(pid)
    return found


def is_asleep(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"


def until_dead(pid: int) -> None:
    until(lambda: not alive(pid))


def serves_one(launcher: Warm, answer: dict[str, object], key: str) -> None:
    """The upstream of the answer is the only one, has `key`, and can be ended."""
    launcher.line(f"{key} {answer['pid']}")
    assert upstreams(launcher) == [answer["pid"]]
    launcher.stop(0)
    launcher.event("exit", pid=answer["pid"])
    assert upstreams(launcher) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_child_in_waiting_that_dies_is_replaced(tmp_path: Path, number: int) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        for key in ("k", "k"):
            waiting = launcher.waiting
            os.kill(waiting, number)
            until_dead(waiting)
            answer = launcher.begin(env={"KEY": key})
            assert answer["kind"] == "warm" or "child in waiting" in answer["why"], answer
            serves_one(launcher, answer, key)


def test_a_child_in_waiting_that_dies_beside_an_upstream_is_replaced(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        running = launcher.begin(env={"KEY": "k"})
        waiting = launcher.waiting
        os.kill(waiting, signal.SIGKILL)
        os.kill(running["pid"], signal.SIGKILL)
        launcher.event("exit", pid=running["pid"])
        launcher.stop(0)
        answer = launcher.begin(env={"KEY": "k"})
        assert answer["kind"] == "warm", answer
        serves_one(launcher, answer, "k")


def test_a_child_in_waiting_that_does_not_answer_never_becomes_an_upstream(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        waiting = launcher.waiting
        os.kill(waiting, signal.SIGSTOP)
        answer = launcher.begin(env={"KEY": "k"})
        assert answer["kind"] == "cold"
        assert answer["why"] == "the child in waiting does not answer"
        assert not alive(waiting)
        serves_one(launcher, answer, "k")


def test_the_fork_servers_death_at_the_start_is_not_the_upstreams_affair(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        assert launcher.waiting
        os.kill(launcher.pid, signal.SIGSTOP)
        os.kill(launcher.forkserver, signal.SIGKILL)
        launcher.send(id=99, op="start", **launcher.prepared, env={"KEY": "k"})
        os.kill(launcher.pid, signal.SIGCONT)
        answer = launcher.answer(99)
        assert answer["ok"], answer
        serves_one(launcher, answer, "k")


@pytest.mark.parametrize("moment", ["at its birth", "after its hello"])
def test_a_fork_server_that_dies_before_it_is_configured_takes_nothing_along(
    tmp_path: Path, moment: str
) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        running = launcher.begin(env={"KEY": "k"})
        launcher.line(f"k {running['pid']}")
        first = launcher.forkserver
        os.kill(first, signal.SIGKILL)
        until(lambda: any(pid not in {first, running["pid"]} for pid in launcher.children()))
        until(lambda: launcher.preloaded() and launcher.forkserver != first)
        os.kill(launcher.pid, signal.SIGSTOP)
        if moment == "after its hello":  # which nobody reads
            until(lambda: all(is_asleep(launcher.forkserver) for _ in range(20)))
        os.kill(launcher.forkserver, signal.SIGKILL)
        os.kill(launcher.pid, signal.SIGCONT)
        launcher.event("cold", why="the fork server was killed by SIGKILL")
        serves_one(launcher, running, "k")


NOISE = {
    "a line": "import os; os.write(3, b'hello\\n')",
    "no object": "import os; os.write(3, b'[1]\\n')",
    "half a message": "import os; os.write(3, b'{\"event\"')",
    "strange fields": "import json, os\n"
    "for e in ('importing', 'warm', 'unborn', 'hello', 'else'):\n"
    "    os.write(3, json.dumps({'event': e, 'done': [], 'seconds': 'x'}).encode() + b'\\n')",
    "a closed descriptor": "import os; os.close(3)",
    "a replaced descriptor": "import os; os.dup2(os.open('/dev/null', 2), 3)",
    "all descriptors closed": "import os; os.closerange(3, 256)",
}


@pytest.mark.parametrize("case", NOISE)
def test_a_module_that_meddles_with_the_launchers_socket_ends_in_a_cold_start(
    tmp_path: Path, case: str
) -> None:
    write(tmp_path, {"prog.py": PROGRAM, "noisy.py": NOISE[case], "more.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), ["noisy", "more"], timeout=5) as launcher:
        answer = launcher.begin(env={"KEY": "k"})
        if case != "strange fields":
            assert answer["kind"] == "cold", answer
        serves_one(launcher, answer, "k")


@pytest.mark.parametrize("seed", range(12))
def test_kills_at_any_moment_of_a_start_leave_one_upstream_or_a_reason(
    tmp_path: Path, seed: int
) -> None:
    write(tmp_path, {"prog.py": PROGRAM})
    dice = random.Random(seed)
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        victims = [launcher.forkserver, launcher.waiting]
        dice.shuffle(victims)
        victims = victims[: dice.randint(1, 2)]
        number = dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM])
        pause = dice.uniform(0, 0.02)

        def kill() -> None:
            for pid in victims:
                time.sleep(pause)
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

        killer = threading.Thread(target=kill)
        killer.start()
        answer = launcher.begin(env={"KEY": "k"})
        killer.join()
        if answer["pid"] in victims:  # killed as the upstream that it was
            launcher.event("exit", pid=answer["pid"])
            launcher.stop(0)
            answer = launcher.begin(env={"KEY": "k"})
        serves_one(launcher, answer, "k")
