"""What the launcher gives an upstream: descriptors, signals, environment and path."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.launcher.launching import LAUNCHER, Launcher

if TYPE_CHECKING:
    from pathlib import Path

# An upstream that tells about itself, in one line of JSON, and ends.
ABOUT = """
import json, os, sys
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status"))
os.set_inheritable(1, True)
mask = os.umask(0)
print(json.dumps({
    "pid": os.getpid(), "ppid": os.getppid(), "sid": os.getsid(0), "pgid": os.getpgid(0),
    "fds": sorted(int(fd) for fd in os.listdir("/proc/self/fd")
                  if os.path.exists("/proc/self/fd/" + fd)),
    "stdin": os.readlink("/proc/self/fd/0"), "umask": mask, "cwd": os.getcwd(),
    "argv": sys.argv, "env": dict(os.environ), "path": sys.path,
    "blocked": status["SigBlk"].strip(), "ignored": status["SigIgn"].strip(),
}))
"""


def about(launcher: Launcher, *argv: str, **fields: Any) -> dict[str, Any]:
    """What an upstream finds; a C program starts it, so that Python's own doings don't show."""
    pid = launcher.start(sys.executable, "-c", ABOUT, *argv, **fields)["pid"]
    exit_ = launcher.event("exit", pid=pid)
    assert exit_["code"] == 0, exit_
    result: dict[str, Any] = json.loads(launcher.output()[-1])
    return result


def ignored(found: dict[str, Any]) -> set[int]:
    """Without the C library's own signals, 32 and 33: its posix_spawn ignores them in a child."""
    mask = int(found["ignored"], 16)
    return {number for number in range(1, 65) if mask >> number - 1 & 1} - {32, 33}


def test_upstream_has_a_session_clean_descriptors_and_default_signals(tmp_path: Path) -> None:
    leaked = os.open(tmp_path, os.O_RDONLY)
    mask = os.umask(0o027)
    try:
        with Launcher(inherit=(leaked,), before=("nohup",), stdout=subprocess.DEVNULL) as launcher:
            found = about(launcher, cwd=str(tmp_path))
    finally:
        os.umask(mask)
        os.close(leaked)
    assert found["sid"] == found["pgid"] == found["pid"]
    assert found["ppid"] == launcher.pid
    assert found["fds"] == [0, 1, 2]
    assert found["stdin"] == "/dev/null"
    assert found["umask"] == 0o027
    assert found["cwd"] == str(tmp_path.resolve())
    assert int(found["blocked"], 16) == 0
    # Python itself ignores SIGPIPE and SIGXFSZ once it runs; nohup's SIGHUP must be gone.
    assert ignored(found) == {signal.SIGPIPE, signal.SIGXFSZ}


def test_sigpipe_kills_as_it_does_by_default() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "yes | head -1; kill -PIPE $$")
        assert launcher.event("exit")["reason"] == "was killed by SIGPIPE"


def test_environment_is_composed_in_the_documented_order() -> None:
    inherited = {"PATH": os.environ["PATH"], "KEEP": "k", "SECRET": "s", "OH_A": "a", "OH_B": "b"}
    with Launcher(env=inherited) as launcher:
        found = about(
            launcher,
            base_unset=["SECRET", "OH_?"],
            base_env={"OH_B": "base", "GONE": "x", "GONE_TOO": "x", "OVER": "base"},
            unset=["GONE*"],
            env={"OVER": "delivered", "GONE_TOO": "delivered", "ODD": "\udcff=\u00e9\n"},
        )["env"]
    found = {name: value for name, value in found.items() if name != "LC_CTYPE"}
    assert found == {
        "PATH": os.environ["PATH"],
        "KEEP": "k",
        "OH_B": "base",
        "OVER": "delivered",
        "GONE_TOO": "delivered",
        "ODD": "\udcff=\u00e9\n",
    }


def test_program_is_looked_for_on_the_path_it_will_have(tmp_path: Path) -> None:
    script = tmp_path / "only-here"
    script.write_text("#!/bin/sh\necho found\n")
    script.chmod(0o755)
    with Launcher() as launcher:
        launcher.start("only-here", env={"PATH": str(tmp_path)})
        launcher.line("found")
        launcher.event("exit")
        launcher.start("./only-here", cwd=str(tmp_path))


def test_nothing_of_the_launcher_is_importable_by_the_upstream() -> None:
    with Launcher() as launcher:
        assert str(LAUNCHER) not in about(launcher)["path"]


def test_inherited_signal_dispositions_do_no_harm() -> None:
    hostile = (
        "import os, signal, sys\n"
        "for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "os.execv(sys.argv[1], sys.argv[1:])"
    )
    with Launcher(before=(sys.executable, "-c", hostile)) as launcher:
        found = about(launcher)
        assert int(found["blocked"], 16) == 0
        assert ignored(found) == {signal.SIGPIPE, signal.SIGXFSZ}
        launcher.process.terminate()
        assert launcher.process.wait(60) == 0
