"""Settings for a proxy in front of the embedded sample agent server."""

from __future__ import annotations

import os
import sys
import sysconfig
from pathlib import Path
from typing import Any

# The directory that holds the package `proxy`.
_HOME = Path(__file__).resolve().parent.parent.parent


def import_path() -> dict[str, str]:
    """The variable with which `python -m proxy` works wherever it is started.

    None when the package is installed: its directory ahead of the standard library's could hide
    modules of the latter.
    """
    if str(_HOME) == sysconfig.get_path("purelib"):
        return {}
    others = os.environ.get("PYTHONPATH")  # what our own interpreter was given, not a setting
    return {"PYTHONPATH": os.pathsep.join([str(_HOME), *([others] if others else [])])}


def sample_settings_overrides(run_dir: str) -> dict[str, Any]:
    """What `serve` runs without a file and a command; to be laid under everything else.

    The upstream's socket lies in `run_dir`, which the launcher makes and removes again.
    """
    socket = f"{run_dir}/agent.sock"
    return {
        "listen": {"address": "127.0.0.1:8000"},
        "upstream": {
            "url": f"http+unix://{socket}",
            "command": [sys.executable, "-m", "proxy.demo.agent", "--unix", socket],
            "env": import_path(),
            "run_dir": run_dir,
            "dormancy": "cold",  # it has no dormant mode and is up in a moment
        },
    }
