"""A server whose workers, not its first process, load what it serves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.launcher.launching import Launcher
from tests.launcher.warming import SERVE, Warm, base, view, write

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

PREFORK = {
    "app/__init__.py": "",
    "app/__main__.py": f"""
import os
if os.fork():
    os.wait()
    os._exit(0)
import app.view, app.key, app.user
open("made", "w").close()
{SERVE}
""",
    "app/view.py": "import json",
    "app/key.py": "import os; KEY = os.environ.get('APP_KEY')",
    "app/user.py": "from app import key",
}


def test_what_forked_workers_load_is_preloaded(tmp_path: Path) -> None:
    write(tmp_path, PREFORK)
    ready = {"address": f"unix:{tmp_path}/s.sock", "path": "/", "statuses": [200]}
    prepared = base(tmp_path, "-m", "app", f"{tmp_path}/s.sock")
    with Launcher() as launcher:
        preload = {"names": ["APP_*"], "ready": ready, "timeout": 30}
        assert launcher.call("record", **prepared, preload=preload)["ok"]
        plan = launcher.event("recorded")["plan"]
    told = [event["text"] for event in launcher.events if event["event"] == "recording"]
    assert sum(text.startswith("trial") for text in told) == 1
    assert plan["struck"] == {"app.key": "reads APP_KEY", "app.user": "imports app.key"}
    assert {"app.view", "http.server"} <= set(plan["modules"])
    assert not (tmp_path / "made").exists()
    program = "import os, sys, json\nseen = 'app.view' in sys.modules\nimport app.key\n"
    program += "if os.fork(): os.wait()\nelse: print(json.dumps([seen, app.key.KEY]), flush=True)"
    write(tmp_path, {"app/__main__.py": program})
    with Warm(prepared, plan["modules"]) as launcher:
        answer = launcher.begin(env={"APP_KEY": "delivered"})
        assert answer["kind"] == "warm", answer
        assert view(answer, launcher) == [True, "delivered"]
