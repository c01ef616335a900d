"""Modules that misbehave while they are preloaded, and a fork server that is lost."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from tests.launcher.launching import alive, encoded, until
from tests.launcher.warming import Warm, base, view, write

pytestmark = pytest.mark.slow

FAULTS = {
    "missing": ("", "module bad.missing raised ModuleNotFoundError: No module named 'bad.missing'"),
    "raises": ("1 / 0", "module bad.raises raised ZeroDivisionError: division by zero"),
    "exits": ("import sys; sys.exit(3)", "module bad.exits called sys.exit(3)"),
    "dies": ("import os; os._exit(4)", "exited with code 4 while importing bad.dies"),
    "forks": (
        "import os, time\nif os.fork() == 0:\n    time.sleep(60)",
        "module bad.forks left process",
    ),
    "returns": ("import os\nos.fork()", "module bad.returns left process"),
    "serves": (
        "import socket; s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen()",
        "module bad.serves left a socket open",
    ),
    "waits": ("import time; time.sleep(600)", "module bad.waits was not imported within 3 s"),
    "deaf": (
        "import signal, time\nfor s in (1, 2, 15): signal.signal(s, 1)\nwhile 1: time.sleep(1)",
        "module bad.deaf was not imported within 3 s",
    ),
    "killed": (
        "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
        "was killed by SIGSEGV while importing bad.killed",
    ),
    "epoll": ("import select; e = select.epoll()", "module bad.epoll left anon_inode:[eventpoll]"),
    "writes": ("f = open('x.log', 'w')", "x.log for writing open"),
    "itself": ("import prog", "module prog is the one to be run"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_module_that_cannot_be_preloaded_is_named_and_the_start_is_cold(
    tmp_path: Path, fault: str
) -> None:
    source, expected = FAULTS[fault]
    write(tmp_path, {"bad/__init__.py": "", "good.py": "", "prog.py": "print('runs')"})
    if source:
        write(tmp_path, {f"bad/{fault}.py": source})
    prepared = base(tmp_path, "-m", "prog")
    timeout = 3 if fault in {"waits", "deaf"} else 20
    with Warm(prepared, ["good", f"bad.{fault}", "json"], timeout=timeout) as launcher:
        assert launcher.why is not None
        assert expected in launcher.why
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        assert expected in answer["why"]
        launcher.event("exit", pid=answer["pid"], code=0)
        until(lambda: not launcher.children())


def test_a_module_that_leaves_a_thread_is_named_and_the_start_is_cold(tmp_path: Path) -> None:
    """A fork would be without it."""
    write(
        tmp_path,
        {
            "busy.py": """
                import threading, time
                threading.Thread(target=time.sleep, args=(600,), daemon=True, name="pump").start()
            """,
            "outer.py": "import busy",
            "prog.py": "import outer, threading; print(threading.active_count())",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["outer", "busy"], linger=0.2) as launcher:
        assert launcher.why == "cannot preload: module busy left thread pump running"
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output() == ["2"]


def test_a_thread_that_ends_is_waited_for(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "short.py": """
                import threading, time
                threading.Thread(target=time.sleep, args=(0.2,)).start()
            """,
            "prog.py": "print('runs')",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["short"]) as launcher:
        assert launcher.event("warm")["notes"] == []


def test_an_upstream_can_be_started_again_and_again_from_one_fork_server(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "prog.py": "import random; print(random.random())",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["random"]) as launcher:
        numbers = []
        for _ in range(4):
            answer = launcher.begin()
            assert answer["kind"] == "warm", answer
            launcher.event("exit", pid=answer["pid"], code=0)
            numbers.append(launcher.output()[-1])
        assert len(set(numbers)) == 4


def test_a_fork_server_that_dies_leaves_a_launcher_that_starts_cold(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        os.kill(launcher.forkserver, signal.SIGKILL)  # what waits below it ends with it
        launcher.event("cold")
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        assert "fork server" in answer["why"]
        launcher.event("exit", pid=answer["pid"], code=0)


def test_the_fork_server_dies_with_its_launcher(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        children = launcher.children()
        answer = launcher.begin()
        launcher.line("up")
        launcher.process.kill()
        until(lambda: not any(alive(pid) for pid in (*children, answer["pid"])))


def test_another_command_or_environment_than_prepared_is_started_cold(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')"})
    prepared = base(tmp_path, "-m", "prog")
    with Warm(prepared, ["json"]) as launcher:
        for change in ({"argv": [*prepared["argv"], "x"]}, {"base_env": {"X": "1"}}, {"cwd": "/"}):
            answer = launcher.start(**(prepared | change))
            assert answer["kind"] == "cold"
            assert "than was prepared" in answer["why"]
            launcher.event("exit", pid=answer["pid"])
            launcher.another()


@pytest.mark.parametrize(
    ("argv", "why"),
    [
        (["{python}", "-c", "print(1)"], "option -c of the interpreter"),
        (["{python}", "-i", "prog.py"], "option -i of the interpreter"),
        (["{python}", "-X", "importtime", "prog.py"], "-X importtime"),
        (["{python}", "-"], "standard input"),
        (["/bin/sh", "-c", "exit 0"], "is not a Python script"),
        (["{python}", "package"], "is a directory or an archive"),
    ],
)
def test_a_command_that_cannot_be_repeated_by_a_fork_is_started_cold(
    tmp_path: Path, argv: list[str], why: str
) -> None:
    write(tmp_path, {"prog.py": "", "package/__main__.py": ""})
    argv = [word.format(python=sys.executable) for word in argv]
    with Warm(base(tmp_path) | {"argv": argv}, ["json"]) as launcher:
        assert launcher.why is not None
        assert why in launcher.why
        answer = launcher.begin()
        assert answer["kind"] == "cold"
        launcher.event("exit", pid=answer["pid"], code=0)


def test_an_init_in_front_of_the_interpreter_is_what_the_launcher_is_already(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"prog.py": "import os; print(os.getppid())"})
    prepared = base(tmp_path) | {"argv": ["tini", "-g", "--", sys.executable, "-m", "prog"]}
    with Warm(prepared, ["json"]) as launcher:
        answer = launcher.begin()
        assert answer["kind"] == "warm"
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output()[-1] == str(launcher.pid)


def test_delivered_files_are_there_and_gone_as_in_a_cold_start(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import os; print(open(os.environ['CONF']).read())"})
    run_dir = tmp_path / "run"
    conf = run_dir / "conf.json"
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        answer = launcher.begin(
            env={"CONF": str(conf)}, files=[encoded(conf, b"{}")], run_dir=str(run_dir)
        )
        assert answer["kind"] == "warm"
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output()[-1] == "{}"
        launcher.stop()
        assert not run_dir.exists()


def test_secrets_are_not_left_readable_in_the_fork_server(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        forkserver = launcher.forkserver
        launcher.begin(env={"TOKEN_OF_MINE": "s3cret-value"})
        launcher.line("up")
        assert b"s3cret" not in Path(f"/proc/{forkserver}/environ").read_bytes()
        launcher.stop(0)


def test_a_forks_environ_has_no_value_that_a_start_has_changed_or_removed(tmp_path: Path) -> None:
    program = "import os, time; print(os.environ['CHANGED'], flush=True); time.sleep(600)"
    write(tmp_path, {"prog.py": program})
    pod = {"REMOVED_KEY": "s3cret-removed", "CHANGED": "s3cret-changed", "KEPT": "as-it-was"}
    with Warm(base(tmp_path, "-m", "prog", **pod), ["json"]) as launcher:
        answer = launcher.begin(env={"CHANGED": "delivered"}, unset=["REMOVED_*"])
        assert answer["kind"] == "warm", answer
        launcher.line("delivered")
        told = Path(f"/proc/{answer['pid']}/environ").read_bytes()
        assert b"s3cret" not in told
        assert b"KEPT=as-it-was\0" in told
        launcher.stop(0)


def test_progress_is_told_while_warming(tmp_path: Path) -> None:
    write(tmp_path, {f"m{n}.py": "import time; time.sleep(.15)" for n in range(6)})
    write(tmp_path, {"prog.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), [f"m{n}" for n in range(6)]) as launcher:
        warming = [event for event in launcher.events if event["event"] == "warming"]
        assert warming[0]["total"] == 6
        assert [event["done"] for event in warming] == sorted(event["done"] for event in warming)
        assert launcher.event("warm")["modules"] == 6


def test_two_hundred_activations_leave_nothing_behind(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "import os, time; print('up', flush=True); time.sleep(600)"})
    run_dir = tmp_path / "run"
    conf = run_dir / "conf.json"
    fields = {"files": [encoded(conf, b"{}")], "run_dir": str(run_dir)}

    def descriptors() -> list[int]:
        return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in (launcher.pid, forkserver)]

    def megabytes() -> list[int]:
        pages = int(Path(f"/proc/{forkserver}/statm").read_text().split()[1])
        return [launcher.resident() // 1_000_000, pages // 256]

    with Warm(base(tmp_path, "-m", "prog"), ["json", "logging"]) as launcher:
        forkserver = launcher.forkserver
        for number in range(200):
            answer = launcher.begin(env={"MY_KEY": "k"}, **fields)
            assert answer["kind"] == "warm", answer
            if number % 2:
                launcher.stop(0)
                launcher.event("exit", pid=answer["pid"])
            else:
                os.kill(answer["pid"], signal.SIGKILL)
                launcher.event("exit", pid=answer["pid"], code=137)
            launcher.events.clear()
            if number == 20:
                launcher.stop(0)
                assert launcher.waiting
                opened, taken = descriptors(), megabytes()
        launcher.stop(0)
        assert launcher.waiting
        until(lambda: all(map(int.__le__, descriptors(), opened)))  # its last ones may be closing
        assert all(now - then <= 2 for now, then in zip(megabytes(), taken, strict=True))
        assert set(launcher.children()) == {forkserver, launcher.waiting}
        assert not run_dir.exists()


@pytest.mark.parametrize("argv", [["prog.py"], ["-m", "prog"]], ids=["script", "module"])
def test_a_module_that_changes_directory_is_not_preloaded(tmp_path: Path, argv: list[str]) -> None:
    """The program is looked for after it, in a fork, and what it does in a fork is done before."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    write(
        tmp_path,
        {
            "mover.py": f"import os\nos.chdir({str(elsewhere)!r})",
            "back.py": f"import os\nos.chdir({str(elsewhere)!r})\nos.chdir({str(tmp_path)!r})",
            "prog.py": "import json, os, mover, back; print(json.dumps(os.getcwd()))",
        },
    )
    prepared = base(tmp_path, *argv)
    with Warm(prepared, ["json", "mover"]) as launcher:
        assert launcher.why == "cannot preload: module mover changes the working directory"
        assert view(launcher.begin(), launcher) == str(tmp_path)
    write(tmp_path, {"prog.py": "import json, os, back; print(json.dumps(os.getcwd()))"})
    with Warm(prepared, ["json", "back"]) as launcher:
        answer = launcher.begin()
        assert answer["kind"] == "warm"
        assert view(answer, launcher) == str(tmp_path)
