"""The one process that is meant, and no other."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.activation.signalled.shellfile import shell_file
from proxy.activation.signalled.target import Target
from proxy.errors import ActivationError
from tests.activation.spawning import planned

if TYPE_CHECKING:
    from collections.abc import Iterator

SLEEP = "import time; time.sleep(600)"


@pytest.fixture
def sleepers() -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def sleeper(sleepers: list[subprocess.Popen[bytes]], name: object) -> int:
    process = subprocess.Popen([sys.executable, "-c", SLEEP, str(name)])
    sleepers.append(process)
    cmdline = Path(f"/proc/{process.pid}/cmdline")
    while str(name) not in cmdline.read_text():  # between fork and exec
        time.sleep(0.005)
    return process.pid


def test_a_pidfile_names_a_process(sleepers: list[subprocess.Popen[bytes]], tmp_path: Path) -> None:
    pid = sleeper(sleepers, tmp_path)
    file = tmp_path / "pid"
    assert Target(str(file), None).find() is None
    file.write_text(f"{pid}\n")
    found = Target(str(file), None).find()
    assert found is not None
    assert found.pid == pid
    assert Target(str(file), "*something else*").find() is None


@pytest.mark.parametrize("text", ["", "x", "-1", "1 2", "99999999999"])
def test_a_pidfile_without_a_pid_names_nobody(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pid"
    file.write_text(text)
    assert Target(str(file), None).find() is None


def test_a_stale_pidfile_names_nobody(
    sleepers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    """Written long before whoever has the pid today was started."""
    file = tmp_path / "pid"
    file.write_text(str(sleeper(sleepers, tmp_path)))
    long_ago = time.time() - 3600
    os.utime(file, (long_ago, long_ago))
    assert Target(str(file), None).find() is None


def test_the_proxy_never_names_itself(tmp_path: Path) -> None:
    file = tmp_path / "pid"
    file.write_text(str(os.getpid()))
    assert Target(str(file), None).find() is None


def test_of_a_server_and_its_workers_the_server_is_meant(
    sleepers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    forks = f"import os, sys; os.fork(); os.write(1, b'up\\n'); {SLEEP}"
    process = subprocess.Popen(
        [sys.executable, "-c", forks, str(tmp_path)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert process.stdout is not None
        assert [process.stdout.readline(), process.stdout.readline()] == [b"up\n", b"up\n"]
        found = Target(None, f"*{tmp_path}").find()
        assert found is not None
        assert found.pid == process.pid
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_two_processes_that_fit_are_one_too_many(
    sleepers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    first = sleeper(sleepers, tmp_path)
    second = sleeper(sleepers, tmp_path)
    with pytest.raises(ActivationError, match=f"{first}.*{second}|{second}.*{first}"):
        Target(None, f"*{tmp_path}").find()


async def test_whoever_got_the_pid_since_is_not_held(
    sleepers: list[subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    target = Target(None, f"*{tmp_path}")
    sleeper(sleepers, tmp_path)
    found = target.find()
    assert found is not None
    sleepers[0].kill()
    sleepers[0].wait()
    assert target.hold(found) is None


def test_the_shell_file_does_what_the_launcher_would(tmp_path: Path) -> None:
    file = tmp_path / "environment"
    awkward = '\'; rm -rf "$HOME"\n`id` \\ '
    file.write_bytes(
        shell_file(
            planned(
                base_unset=("PLAIN", "WILD_*"),
                base_env={"BASE": "1", "BOTH": "base"},
                unset=("KEY_[0-9]*",),
                env={"BOTH": "delivered", "AWKWARD": awkward, "WILD_NEW": "stays"},
            )
        )
    )
    before = {
        "PATH": os.environ["PATH"],
        "PLAIN": "x",
        "WILD_A": "x",
        "KEY_0": "x",
        "KEY_X": "kept",
        "KEPT": "yes",
    }
    script = 'set -eu; . "$1"; exec env -0'
    done = subprocess.run(
        ["/bin/sh", "-c", script, "sh", str(file)], env=before, capture_output=True, check=True
    )
    seen = dict(pair.split("=", 1) for pair in done.stdout.decode().rstrip("\0").split("\0"))
    seen.pop("PWD", None)
    assert seen == {
        "PATH": os.environ["PATH"],
        "KEPT": "yes",
        "KEY_X": "kept",
        "BASE": "1",
        "BOTH": "delivered",
        "AWKWARD": awkward,
        "WILD_NEW": "stays",
    }


@pytest.mark.parametrize("fields", [{"env": {"a-b": "1"}}, {"unset": ("a b",)}])
def test_what_no_shell_can_carry_is_refused_by_name(fields: dict[str, object]) -> None:
    with pytest.raises(ActivationError, match=r"a.b"):
        shell_file(planned(**fields))
