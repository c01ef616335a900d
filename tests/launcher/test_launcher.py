"""The launcher's main line: how an upstream is started and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipapp
from pathlib import Path
from typing import Any

import pytest

from tests.interpreters import interpreters
from tests.launcher.launching import LAUNCHER, Launcher, alive, until

INTERPRETERS = interpreters()


@pytest.mark.parametrize("python", INTERPRETERS.values(), ids=INTERPRETERS.keys())
def test_starts_reports_and_stops_on_every_python(python: str) -> None:
    with Launcher(python) as launcher:
        assert launcher.hello["event"] == "hello"
        assert launcher.hello["version"] == 1
        assert launcher.hello["pid"] == launcher.pid
        assert launcher.hello["running"] is None
        started = launcher.start("sh", "-c", "echo out; echo err >&2; exec sleep 600")
        assert started["kind"] == "cold"
        assert started["why"] == "nothing is preloaded"
        launcher.line("out")
        launcher.line("err")
        launcher.stop()
        assert launcher.event("exit") == {
            "event": "exit",
            "pid": started["pid"],
            "code": 143,
            "reason": "was killed by SIGTERM",
            "tail": "err",
        }
        assert not alive(started["pid"])
    assert launcher.process.returncode == 0
    assert launcher.stderr == ""


@pytest.mark.parametrize(
    ("script", "code", "reason"),
    [
        ("exit 0", 0, "exited with code 0"),
        ("exit 41", 41, "exited with code 41"),
        ("kill -KILL $$", 137, "was killed by SIGKILL"),
        ("kill -SEGV $$", 139, "was killed by SIGSEGV"),
        ("kill -40 $$", 168, "was killed by signal 40"),
    ],
)
def test_death_is_reported_as_a_shell_would(script: str, code: int, reason: str) -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", script)
        exit_ = launcher.event("exit")
        assert (exit_["code"], exit_["reason"]) == (code, reason)


@pytest.mark.parametrize(
    ("argv", "cwd", "error"),
    [
        (["no-such-program"], None, "cannot start no-such-program: No such file or directory"),
        (["/etc"], None, "cannot start /etc: Permission denied"),
        (["{}/data"], None, "cannot start {}/data: Permission denied"),
        (["{}/odd"], None, "cannot start {}/odd: its interpreter: No such file or directory"),
        (["{}/noexec"], None, "cannot start {}/noexec: Exec format error"),
        (["sh"], "{}/no", "cannot start sh: cannot enter {}/no: No such file or directory"),
        (["sh"], "{}/data", "cannot start sh: cannot enter {}/data: Not a directory"),
        (["sh", "x" * 200_000], None, "cannot start sh: an argument is too long"),
    ],
)
def test_what_cannot_be_executed_is_told_and_undone(
    tmp_path: Path, argv: list[str], cwd: str | None, error: str
) -> None:
    (tmp_path / "data").write_text("")
    for name, text in (("odd", "#!/no/such/interpreter\n"), ("noexec", "\1\2\3\4")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    run_dir = tmp_path / "run"
    with Launcher() as launcher:
        answer = launcher.try_start(
            *(item.format(tmp_path) for item in argv),
            cwd=cwd.format(tmp_path) if cwd else None,
            run_dir=str(run_dir),
        )
        assert answer["error"] == error.format(tmp_path)
        assert not run_dir.exists()
        until(lambda: not launcher.children())
        # The launcher is as good as before.
        launcher.start("true")
        assert launcher.event("exit")["code"] == 0
        assert [event["event"] for event in launcher.events].count("exit") == 1


def test_second_start_while_running_is_refused_and_harmless(tmp_path: Path) -> None:
    with Launcher() as launcher:
        pid = launcher.start("sleep", "600")["pid"]
        answer = launcher.try_start("sleep", "601", run_dir=str(tmp_path / "run"))
        assert answer["error"] == f"cannot start: process {pid} is running"
        assert not (tmp_path / "run").exists()
        assert alive(pid)


def test_stop_is_idempotent_and_safe_when_nothing_runs() -> None:
    with Launcher() as launcher:
        launcher.stop()
        launcher.start("sleep", "600")
        launcher.stop()
        launcher.stop()
        launcher.start("true")
        launcher.event("exit", code=0)
        launcher.stop()


def test_start_after_prepare_without_a_preload_is_cold() -> None:
    with Launcher() as launcher:
        assert launcher.call("prepare", argv=["x"], base_unset=[], preload=None)["ok"]
        assert launcher.start("true")["why"] == "nothing is preloaded"


def test_serves_as_a_zipapp_and_as_a_module(tmp_path: Path) -> None:
    archive = tmp_path / "launcher.pyz"
    zipapp.create_archive(
        LAUNCHER, archive, filter=lambda path: path.suffix == ".py", compressed=True
    )
    for path in (archive, LAUNCHER / "__main__.py"):
        with Launcher(path=path) as launcher:
            launcher.start("echo", "from here")
            launcher.line("from here")


@pytest.mark.parametrize("arguments", [[], ["--fd"], ["--fd", "x"], ["--fd", "999"], ["--fd", "0"]])
def test_wrong_command_line_is_told_in_one_line(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("launcher: ")
    assert done.stderr.count("\n") == 1


def test_launcher_is_closed_to_its_own_user_and_the_upstream_is_not(tmp_path: Path) -> None:
    # The kernel gives the files of a process that is not dumpable to root. Where we are root
    # already, a group of its own shows the difference.
    popen: dict[str, Any] = {"group": 65534} if os.geteuid() == 0 else {}
    with Launcher(**popen) as launcher:
        upstream = launcher.start("sleep", "600")["pid"]
        owners = [
            (status.st_uid, status.st_gid)
            for status in (Path(f"/proc/{pid}/environ").stat() for pid in (launcher.pid, upstream))
        ]
    assert owners[0] != owners[1]
    assert owners[1] == (os.geteuid(), 65534 if os.geteuid() == 0 else os.getegid())


def test_launcher_at_rest_does_not_wake_up() -> None:
    def wakeups() -> str:
        status = Path(f"/proc/{launcher.pid}/status").read_text().splitlines()
        return next(line for line in status if line.startswith("voluntary_ctxt_switches"))

    def asleep() -> bool:
        before = wakeups()
        time.sleep(0.05)
        return wakeups() == before

    with Launcher() as launcher:
        launcher.start("sh", "-c", "echo up; exec sleep 600")
        launcher.line("up")
        until(asleep)
        before = wakeups()
        time.sleep(0.3)
        assert wakeups() == before


def test_fifty_runs_leak_no_descriptor_process_or_file(tmp_path: Path) -> None:
    # A launcher with 24 descriptors in all would be out of them long before the end.
    limited = ("sh", "-c", 'ulimit -n 24; exec "$@"', "sh")
    work = tmp_path / "work"
    work.mkdir()
    with Launcher(before=limited) as launcher:
        for number in range(50):
            argv = [
                ("sh", "-c", "trap 'exit 3' TERM; (echo up; exec sleep 600) & wait"),
                ("sh", "-c", "(setsid sleep 600 &) ; echo up; exit 1"),
                ("sh", "-c", "echo up; exec sleep 600"),
                ("/no/such/program",),
            ][number % 4]
            content = {"path": str(work / "a" / "b"), "content": "eA==", "mode": 0o640}
            answer = launcher.try_start(*argv, files=[content], run_dir=str(work / "run"))
            if answer["ok"]:
                launcher.line("up")
                launcher.events.clear()
                launcher.stop()
            assert launcher.children() == []
            assert list(work.iterdir()) == []
