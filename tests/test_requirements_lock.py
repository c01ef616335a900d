"""`requirements.lock` is what the images install: complete, by hash, and from no named index."""

from __future__ import annotations

import re
import tomllib

from tests.harness import ROOT

LOCK = (ROOT / "requirements.lock").read_text()
# One pin with the hashes on the lines that follow it.
PINNED = {
    match["name"].lower(): match["hashes"]
    for match in re.finditer(
        r"^(?P<name>[A-Za-z0-9._-]+)==\S+(?: ;[^\\\n]*)?"
        r"(?P<hashes>(?: \\\n +--hash=sha256:[0-9a-f]{64})*)$",
        LOCK,
        re.MULTILINE,
    )
}


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {re.split(r"[^A-Za-z0-9._-]", line)[0].lower() for line in project["dependencies"]}
    assert wanted <= set(PINNED)


def test_every_pin_has_its_hashes_and_nothing_else_is_in_it() -> None:
    assert all(PINNED.values())
    rest = [line for line in LOCK.splitlines() if not line.startswith(("#", "    --hash="))]
    assert len(rest) == len(PINNED)


def test_no_index_is_named() -> None:
    assert "://" not in LOCK
    assert "index-url " not in LOCK.replace("--no-emit-index-url ", "")
