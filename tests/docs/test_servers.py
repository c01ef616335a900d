"""The gallery of servers: its settings are right, its inits fit them, and its page names them all.

That the servers themselves agree is seen by `tests/real/test_servers.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.lifecycle.contract import parse_init_request
from proxy.lifecycle.plan import build_plan
from proxy.settings import load_settings
from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

GALLERY = ROOT / "docs" / "how-to" / "servers"


@pytest.mark.parametrize("here", sorted(GALLERY.glob("*/")), ids=lambda here: here.name)
def test_a_server_of_the_gallery_takes_the_init_that_is_shown(here: Path) -> None:
    settings = load_settings(here / "proxy.yaml", {"OH_SECRET_KEY": "key"})
    request = parse_init_request((here / "init.json").read_bytes())
    enforced = settings.gate.session_keys == "enforce"
    plan = build_plan(settings.upstream, request, run_dir="/run/x", keys_at_gate=enforced)
    assert plan.session_keys
    assert (here / "requirements.txt").read_text().strip()
    assert f"]({here.name}/proxy.yaml)" in (GALLERY / "README.md").read_text()
