"""`try`: a server by itself and behind the proxy, and the settings that come of it."""

from __future__ import annotations

import re
import sys
import textwrap
from typing import TYPE_CHECKING

import pytest
import yaml

from proxy.settings import load_settings
from tests.commands.test_cli import run
from tests.harness import ECHO

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

# Two processes behind one socket, at every address, with nothing for those who have no key.
FORKING = """
    import http.server, os, sys
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(404 if self.path != "/api" else 403)
            self.end_headers()
        def log_message(self, *args): pass
    server = http.server.HTTPServer(("0.0.0.0", int(sys.argv[1])), Handler)
    os.fork()
    server.serve_forever()
"""


def test_a_server_is_claimed_cold_and_warm_and_its_settings_are_printed(tmp_path: Path) -> None:
    done = run("try", "--", sys.executable, str(ECHO), "--port", "{port}")
    assert done.returncode == 0, done.stderr
    file = tmp_path / "proxy.yaml"
    file.write_text(done.stdout)
    settings = load_settings(file, {"OH_SECRET_KEY": "key"})
    assert settings.deferred_init
    upstream = settings.upstream
    assert upstream.command == (sys.executable, str(ECHO), "--port", "18000")
    assert (str(upstream.url), upstream.ready.path) == ("http://127.0.0.1:18000", "/ready")
    assert (upstream.dormancy, upstream.profile) == ("auto", "none")
    assert re.search(
        r"# One process accepts connections\. Claimed cold in [\d.]+ s\.\n", done.stdout
    )
    assert re.search(r"# Claimed in [\d.]+ s when it waits with its modules", done.stdout)


def test_what_is_peculiar_about_a_server_is_in_the_comments(tmp_path: Path) -> None:
    (tmp_path / "server.py").write_text(textwrap.dedent(FORKING))
    shell = 'exec "$@"'
    command = ["sh", "-c", shell, "sh", sys.executable, str(tmp_path / "server.py"), "{port}"]
    done = run("try", "--", *command)
    assert done.returncode == 0, done.stderr
    upstream = yaml.safe_load(done.stdout)["upstream"]
    assert upstream["ready"] == {"path": "/api", "statuses": [403]}
    assert upstream["dormancy"] == "cold"
    for words in (
        "# It listens at 0.0.0.0, where others can go around",
        "# The best that it answers without a key is 403",
        "# 2 processes accept connections.",
        "# It cannot wait warm: ",
    ):
        assert words in done.stdout


@pytest.mark.parametrize(
    ("timeout", "command", "words"),
    [
        (
            "60",
            ("sh", "-c", "echo no licence >&2; exit 3"),
            "it ended with code 3 before it answered; it printed: no li",
        ),
        ("60", ("/no/such/server",), "cannot start /no/such/server: "),
        ("1", ("sleep", "60"), "nothing that sleep started listens, or answers, within 1 s"),
    ],
)
def test_a_server_that_does_not_come_up_is_told(
    timeout: str, command: tuple[str, ...], words: str
) -> None:
    done = run("try", "--timeout", timeout, "--", *command)
    assert done.returncode == 1
    assert f"error: {words}" in done.stderr


def test_an_init_that_is_refused_is_told(tmp_path: Path) -> None:
    body = tmp_path / "init.json"
    body.write_text('{"session_api_keys": ["one"]}')
    command = ("--", sys.executable, str(ECHO), "--port", "{port}")
    done = run("try", "--body", str(body), *command)
    assert done.returncode == 1
    assert "session_api_keys: not mapped for this upstream" in done.stderr
    done = run("try", "--body", str(tmp_path / "none"), *command)
    assert done.returncode == 2
    assert "--body: cannot read" in done.stderr
    done = run("try", "--timeout", "0", *command)
    assert done.returncode == 2
    assert "--timeout: invalid" in done.stderr
