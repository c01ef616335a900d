from __future__ import annotations

import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from proxy.cli import COMMANDS
from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from tests.harness import Command


def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "proxy", *arguments],
        cwd=ROOT, env=clean_environment(**env),
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def test_help_names_every_command() -> None:
    answer = run("--help")
    assert answer.returncode == 0
    named = [line.split()[0] for line in answer.stdout.splitlines() if line.startswith("    ")]
    assert set(COMMANDS) <= set(named)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(command: Command, name: str) -> None:
    answer = command(name, "--help")
    assert answer.returncode == 0
    assert answer.stdout.startswith(f"usage: deferred-init-proxy {name}")
    assert not answer.stderr


def test_wrong_usage_is_the_exit_code_of_the_process() -> None:
    assert run("sreve").returncode == 2


@pytest.mark.parametrize("arguments", [(), ("sreve",), ("serve", "--confg", "x"), ("--nope",)])
def test_wrong_usage_exits_with_2(command: Command, arguments: tuple[str, ...]) -> None:
    answer = command(*arguments)
    assert answer.returncode == 2
    assert "usage: deferred-init-proxy" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sreve",), "there is no command 'sreve'; did you mean serve?"),
        (("zzz",), "there is no command 'zzz'\n"),
        (
            ("serve", "--confg", "x"),
            "serve: error: unrecognized arguments: --confg; did you mean --c",
        ),
        (("init", "--ulr=x"), "init: error: unrecognized arguments: --ulr=x; did you mean --url?"),
        (
            ("serve", "--port", "80"),
            "unrecognized arguments: --port; the agent server's command goes after '--'\n",
        ),
        (
            ("record", "python", "-m", "agent"),
            "unrecognized arguments: -m agent; the agent server's command goes after '--'\n",
        ),
        (("init", "--config=x"), "init: error: unrecognized arguments: --config=x\n"),
        (("demo", "x"), "demo: error: unrecognized arguments: x\n"),
        (("serve", "--"), "serve: error: no command follows '--'"),
        (("record", "--"), "record: error: no command follows '--'"),
    ],
)
def test_what_was_mistyped_is_named_with_what_was_meant(
    command: Command, arguments: tuple[str, ...], words: str
) -> None:
    answer = command(*arguments)
    assert answer.returncode == 2
    assert words in answer.stderr
    assert len(answer.stderr.splitlines()) == 2


@pytest.mark.parametrize("arguments", [(), ("init",)])
def test_help_can_be_asked_for_as_a_command(command: Command, arguments: tuple[str, ...]) -> None:
    answer = command("help", *arguments)
    assert answer.returncode == 0
    assert answer.stdout == command(*arguments, "--help").stdout


def test_settings_faults_exit_with_2_each_on_its_line(command: Command) -> None:
    answer = command("serve", "--config", "/nonexistent.yaml")
    assert answer.returncode == 2
    assert answer.stderr.startswith("error: ")
    assert "/nonexistent.yaml" in answer.stderr
    assert "Traceback" not in answer.stderr


def test_listener_that_is_taken_exits_with_1_and_names_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        address = f"127.0.0.1:{port}"
        answer = run("serve", "--", "sleep", "60", PROXY_LISTEN__ADDRESS=address)
    assert answer.returncode == 1
    assert f'"cannot listen on 127.0.0.1:{port}: Address already in use"' in answer.stderr
