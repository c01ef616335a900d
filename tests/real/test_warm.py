"""Warm starts of the real agent server: recorded, ready in a moment, and never without its keys."""

from __future__ import annotations

import http.client
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from proxy.activation.launched.preloading import deliverable
from proxy.settings.profiles import OPENHANDS
from tests.launcher.launching import Launcher, encoded
from tests.launcher.warming import Warm
from tests.real.pods import free_port, interpreter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 180.0  # seconds for a recording on a busy machine
KEY = "session-key-of-the-user"
CONFIG_PATH = "OPENHANDS_AGENT_SERVER_CONFIG_PATH"
ENV = {"OH_SESSION_API_KEYS_0": KEY, "OH_SECRET_KEY": KEY, "LLM_API_KEY": "sk-none"}


class Server:
    """One release on one port, with the plan that was recorded for it."""

    def __init__(self, version: str, home: Path) -> None:
        self.home = home
        self.port = free_port()
        (home / "work").mkdir()
        self.prepared: dict[str, Any] = {
            "argv": [
                *(interpreter(version), "-m", "openhands.agent_server"),
                *("--host", "127.0.0.1", "--port", str(self.port)),
            ],
            "cwd": str(home / "work"),
            "base_env": {
                "HOME": str(home / "home"),
                "OH_ENABLE_VSCODE": "false",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            },
            "base_unset": ["OH_*", "SESSION_API_KEY"],
        }
        self.plan = home / "plan.json"
        address = f"127.0.0.1:{self.port}"
        ready = {"address": address, "path": "/ready", "statuses": [200]}
        with Launcher() as launcher:
            launcher.socket.settimeout(PATIENCE)
            terms = {"names": deliverable(OPENHANDS), "ready": ready, "timeout": PATIENCE}
            assert launcher.call("record", **self.prepared, preload=terms)["ok"]
            recorded = launcher.event("recorded")
        assert recorded["plan"] is not None, recorded["why"]
        self.recorded = recorded["plan"]
        self.plan.write_text(json.dumps(self.recorded))

    def warm(self, **base_env: str) -> Warm:
        prepared = self.prepared | {"base_env": self.prepared["base_env"] | base_env}
        launcher = Warm(prepared, [], plan=str(self.plan), timeout=PATIENCE)
        launcher.socket.settimeout(PATIENCE)
        return launcher

    def status(self, path: str, key: str | None = None) -> int | None:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            client.request("GET", path, headers={"X-Session-API-Key": key} if key else {})
            return client.getresponse().status
        except OSError:
            return None
        finally:
            client.close()

    def expect_locked(self) -> None:
        """Ready, and open to nobody but the holder of the key."""
        deadline = time.monotonic() + 60
        while self.status("/ready") != 200:
            assert time.monotonic() < deadline, "never ready"
            time.sleep(0.02)
        path = "/api/conversations/count"
        assert self.status(path) == 401
        assert self.status(path, "another key") == 401
        assert self.status(path, KEY) == 200


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Server]:
    """Every release is recorded once."""
    servers: dict[str, Server] = {}

    def get(version: str) -> Server:
        if version not in servers:
            servers[version] = Server(version, tmp_path_factory.mktemp(version))
        return servers[version]

    return get


@pytest.mark.real
@pytest.mark.timeout(600)
@pytest.mark.parametrize("version", ["newest", "1.20.1"])
def test_keys_in_the_environment_are_enforced_after_a_warm_start(
    recorded: Callable[[str], Server], version: str
) -> None:
    server = recorded(version)
    struck = server.recorded["struck"]
    assert "openhands.agent_server.sockets" in struck
    assert len(struck) < 10
    assert not list((server.home / "work").iterdir())
    with server.warm() as launcher:
        assert launcher.why is None
        for _ in range(2):
            answer = launcher.begin(env=ENV)
            assert answer["kind"] == "warm", answer
            server.expect_locked()
            launcher.stop()
        # With the module that reads the keys at import in the list, no start is warm.
    listed = [*server.recorded["modules"], "openhands.agent_server.sockets"]
    with Warm(server.prepared, listed, timeout=PATIENCE) as launcher:
        answer = launcher.begin(env=ENV)
        assert answer["kind"] == "cold"
        assert "openhands.agent_server.sockets" in answer["why"]
        server.expect_locked()


@pytest.mark.real
@pytest.mark.timeout(600)
def test_keys_in_the_configuration_file_are_enforced_after_a_warm_start(
    recorded: Callable[[str], Server],
) -> None:
    newest = recorded("newest")
    run_dir = newest.home / "run"
    config = run_dir / "config.json"
    content = json.dumps({"session_api_keys": [KEY], "secret_key": KEY}).encode()
    fields = {
        "env": {CONFIG_PATH: str(config)},
        "files": [encoded(config, content)],
        "run_dir": str(run_dir),
    }
    own = newest.home / "own.json"
    own.write_text(json.dumps({"max_concurrent_runs": 3}))
    for base_env in ({}, {CONFIG_PATH: str(own)}):
        with newest.warm(**base_env) as launcher:
            assert launcher.why is None
            answer = launcher.begin(**fields)
            assert answer["kind"] == "warm", answer
            newest.expect_locked()
