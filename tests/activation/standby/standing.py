"""A proxy in front of a server that runs while it is dormant, for tests."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from tests.activation.native.waiting import claimable
from tests.harness import ROOT, echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

SERVER = ROOT / "tests" / "upstreams" / "standby.py"
TOKEN = 'sk-"12\\34567'
READY = (200, {"state": "ready", "error": None})
BODY: dict[str, Any] = {"token": TOKEN, "provider": "a/b c"}

FIELDS: dict[str, Any] = {"token": {"type": "secret"}, "provider": {"type": "string"}}
REQUEST: dict[str, Any] = {
    "method": "PUT",
    "path": "/auth/{provider}?x={token}",
    "body": {"type": "api", "key": "{token}"},
    "expect": {"body": '"taken": true'},
    "timeout": 1,
}


def settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    socket, moods = str(directory / "up.sock"), str(directory / "mood.json")
    chosen = {
        "command": [sys.executable, str(SERVER), "--unix", socket, "--mood", moods],
        "profile": "none",
        "mapping": {"fields": FIELDS},
        "dormancy": "standby",
        "standby": {"requests": [REQUEST]},
    }
    return echo_settings(directory, **chosen | upstream)


def mood(directory: Path, **how: str) -> None:
    (directory / "mood.json").write_text(json.dumps(how))


async def standing(serve: Serve, directory: Path, **upstream: Any) -> ProxyProcess:
    """One whose server waits."""
    proxy = await serve(settings(directory, **upstream))
    await claimable(proxy)
    return proxy


async def told(proxy: ProxyProcess) -> dict[str, Any]:
    """What the server says of itself."""
    status, answer = await proxy.get("/self")
    assert status == 200, answer
    found: dict[str, Any] = answer
    return found
