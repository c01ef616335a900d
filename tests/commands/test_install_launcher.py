"""The launcher's file for the agent's container, and its command line there."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.activation.agentcontainer import AgentContainer, installed
from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path


def test_the_zipapp_is_the_same_every_time_and_says_how_it_is_used(tmp_path: Path) -> None:
    one, other = installed(), tmp_path / "other.pyz"
    subprocess.run(
        [sys.executable, "-m", "proxy", "install-launcher", str(other)], check=True, cwd=ROOT
    )
    assert one.read_bytes() == other.read_bytes()
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(one), "--socket"], capture_output=True, check=False
    )
    assert done.returncode == 2
    assert b"--socket PATH" in done.stderr


def test_a_file_in_the_sockets_place_is_not_removed(tmp_path: Path) -> None:
    agent = AgentContainer(tmp_path)
    agent.socket.write_text("somebody's")
    agent.start()
    assert agent.process is not None
    assert agent.process.wait(60) == 1
    assert agent.socket.read_text() == "somebody's"


def test_install_launcher_names_the_place_that_it_cannot_write(tmp_path: Path) -> None:
    place = tmp_path / "missing" / "launcher.pyz"
    done = subprocess.run(
        [sys.executable, "-m", "proxy", "install-launcher", str(place)],
        capture_output=True, check=False, cwd=ROOT, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"cannot write {place}: No such file or directory" in done.stderr
