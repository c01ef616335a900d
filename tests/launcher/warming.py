"""Upstreams in generated packages, started cold and warm through a real launcher, for tests."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import Any, Self

from tests.interpreters import interpreters
from tests.launcher.launching import Launcher, until

KNOWN = frozenset(interpreters().values())

# The end of a program that answers everything with 200, at the Unix socket that `argv[1]` names.
SERVE = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def log_message(self, *_): pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_UNIX
    def server_bind(self):
        if os.path.exists(sys.argv[1]): os.unlink(sys.argv[1])
        self.socket.bind(sys.argv[1])
print("serving", flush=True)
Server(sys.argv[1], Handler).serve_forever()
"""


def write(directory: Path, files: dict[str, str]) -> None:
    """Write modules (`pkg/mod.py`), dedented."""
    for name, source in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))


def base(directory: Path, *argv: str, python: str = sys.executable, **env: str) -> dict[str, Any]:
    """The unchanging part of a start: `argv` behind an interpreter, the test's own by default."""
    return {
        "argv": [python, *argv],
        "cwd": str(directory),
        "base_env": {"PYTHONDONTWRITEBYTECODE": "1"} | env,
        "base_unset": [],
    }


class Warm(Launcher):
    """A launcher with a fork server, warm (or given up) when entered."""

    def __init__(self, prepared: dict[str, Any], modules: list[str], **preload: Any) -> None:
        super().__init__(prepared["argv"][0] if prepared["argv"][0] in KNOWN else sys.executable)
        self.prepared = prepared
        self._preload = {"modules": modules, "timeout": 30} | preload
        self.why: str | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        answer = self.call("prepare", **self.prepared, preload=self._preload)
        assert answer["ok"], answer
        while not any(event["event"] in {"warm", "cold"} for event in self.events):
            self.receive()
        self.why = self.events[-1].get("why")
        return self

    def begin(self, **fields: Any) -> dict[str, Any]:
        answer = self.call("start", **self.prepared, **fields)
        assert answer["ok"], answer
        return answer

    def another(self) -> None:
        """The user has gone: wait for the fork server of the next one."""
        seen = len(self.events)
        answer = self.call("renew")
        assert answer["ok"], answer
        while answer["warming"] and not any(
            event["event"] in {"warm", "cold"} for event in self.events[seen:]
        ):
            self.receive()

    @property
    def forkserver(self) -> int:
        """Its pid: the first of the launcher's children that have its command line."""
        return self.preloaded()[0]

    @property
    def waiting(self) -> int:
        """The pid of its child in waiting, once that is there."""
        until(lambda: len(self.preloaded()) > 1)
        return self.preloaded()[1]

    def preloaded(self) -> list[int]:
        """The fork server, and what waits, in the order in which they began."""
        return sorted((pid for pid in self.children() if _is_preloaded(pid)), key=_begun)

    def finished(self) -> dict[str, Any]:
        """The next exit event."""
        seen = len([event for event in self.events if event["event"] == "exit"])
        while True:
            exits = [event for event in self.events if event["event"] == "exit"]
            if len(exits) > seen:
                return exits[-1]
            self.receive()


def _is_preloaded(pid: int) -> bool:
    try:
        return b"exec(os.read(" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _begun(pid: int) -> tuple[int, int]:
    """When, in ticks."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0, pid
    return int(status.rpartition(")")[2].split()[19]), pid


def view(answer: dict[str, Any], launcher: Launcher) -> Any:
    """What the upstream printed last, as JSON, once it has ended.

    An object may take many lines: one long line would be cut where the launcher cuts lines.
    """
    launcher.event("exit", pid=answer["pid"])
    lines = launcher.output()
    start = len(lines) - 1
    if lines[-1] == "}":
        while lines[start] != "{":
            start -= 1
    return json.loads("\n".join(lines[start:]))


def views(
    directory: Path,
    argv: list[str],
    modules: list[str],
    *,
    python: str = sys.executable,
    **fields: Any,
) -> tuple[Any, Any, dict[str, Any]]:
    """What the same start prints cold and warm, and the warm start's answer."""
    prepared = base(directory, *argv, python=python)
    with Launcher(python) as launcher:
        cold = view(launcher.start(**prepared, **fields), launcher)
    with Warm(prepared, modules) as launcher:
        answer = launcher.begin(**fields)
        warm = view(answer, launcher)
    return cold, warm, answer
