from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

from proxy.cli import main
from tests.harness import ProxyProcess, clean_environment, echo_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from tests.harness import Command, Serve


# A shell starts so what it runs in the background, nohup what is to stay, and whoever a test sends
# them inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# Every one of xdist's workers, which inherit this, would compile all tests again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

# How long an example takes is the machine's affair.
hypothesis.settings.register_profile(
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

# Tests that need more than this package and a shell: they run where `-m` names them.
_ELSEWHERE = {"browser", "chaos", "containers", "deploy", "fuzz", "node", "real"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    unnamed = _ELSEWHERE - set(re.findall(r"\w+", config.option.markexpr))
    left = [item for item in items if unnamed & {mark.name for mark in item.iter_markers()}]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in set(left)]
    if hasattr(config, "workerinput"):
        # Nobody is to begin a long one when the others have nothing left to do.
        items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Whoever has no tests left takes others': some are far longer than most."""
    if config.option.numprocesses and config.option.dist == "no":
        config.option.dist = "worksteal"


def pytest_xdist_auto_num_workers() -> int:
    """For `-n logical` and `-n auto`: two more than processors, since most tests wait."""
    return (os.cpu_count() or 1) + 2


@pytest.fixture
async def serve(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Serve]:
    """Start a proxy: `await serve(settings, env={…})`; without settings, before the echo upstream.

    Keyword arguments other than `env` and `prefix` (a command to run it by) are upstream settings.
    Everything is ended afterwards.
    """
    executed = request.node.get_closest_marker("executed") is not None
    running: list[ProxyProcess] = []

    async def start(
        settings: dict[str, Any] | None = None,
        *,
        env: dict[str, str] | None = None,
        prefix: Sequence[str] = (),
        **upstream: Any,
    ) -> ProxyProcess:
        chosen = settings or echo_settings(tmp_path, **upstream)
        proxy = ProxyProcess(chosen, tmp_path, env or {}, prefix, executed=executed)
        running.append(proxy)
        return await proxy.start()

    yield start
    for proxy in running:
        await proxy.close()


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """A command line that only reads and tells, run in this process as if by `python -m proxy`."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patched:
            for name in set(os.environ) - set(clean_environment()):
                patched.delenv(name)
            for name, value in env.items():
                patched.setenv(name, value)
            try:
                code = main([*arguments])
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failed run: whatever it wanted to see was not seen."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    skipped = len(reporter.stats.get("skipped", [])) if reporter is not None else 0
    if os.environ.get("CI") and skipped and exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
