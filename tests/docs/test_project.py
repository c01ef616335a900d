"""What the documents say of the project itself: its places, its version, its commands."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from proxy import __version__
from tests import conftest
from tests.docs.pages import pages
from tests.harness import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
# As `proxy/lifecycle/gate.py:decide`, and files without a name.
PLACE = re.compile(r"`((?:proxy|tests|benchmarks|docs)/[\w./]+\.py)(?::([\w.]+))?`")


def places() -> list[tuple[str, str]]:
    found = {place for page in pages() for place in PLACE.findall(page.read_text())}
    return sorted(found)


def names(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """What a module defines, and what its classes do."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name
            if isinstance(node, ast.ClassDef):
                yield from names(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield prefix + node.target.id


@pytest.mark.parametrize(("file", "name"), places())
def test_a_named_place_is_there(file: str, name: str) -> None:
    assert (ROOT / file).is_file()
    assert not name or name in set(names(ast.parse((ROOT / file).read_text())))


def test_the_tour_answers_what_a_newcomer_asks() -> None:
    tour = (ROOT / "CONTRIBUTING.md").read_text().partition("### A tour")[2].partition("\n## ")[0]
    assert len(PLACE.findall(tour)) > 12


def test_readme_is_read_in_one_sitting() -> None:
    assert (ROOT / "README.md").read_text().count("\n") <= 150


def test_images_and_manifests_are_of_this_version() -> None:
    tagged: dict[Path, set[str]] = {}
    for file in [ROOT / "Dockerfile", *(ROOT / "deploy" / "k8s").rglob("*")]:
        if file.is_file():
            told = r"ARG VERSION=(\S+)|deferred-init-proxy:([\d.]+\d)|newTag: ([\d.]+)"
            own = (line for line in file.read_text().splitlines() if "agent-server" not in line)
            tagged[file] = {"".join(found) for line in own for found in re.findall(told, line)}
    assert tagged[ROOT / "Dockerfile"] == {__version__}
    assert set().union(*tagged.values()) == {__version__}


def test_the_license_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["license"] == "MIT"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License\n")
    assert 'image.licenses="MIT"' in (ROOT / "Dockerfile").read_text()


def test_every_extra_is_explained() -> None:
    told = (ROOT / "CONTRIBUTING.md").read_text().partition("| extra |")[2].partition("\n\n")[0]
    extras = PROJECT["project"]["optional-dependencies"]
    assert set(re.findall(r"^\| `(\w+)` \|", told, re.MULTILINE)) == set(extras)


@pytest.mark.parametrize("target", ["lint", "types", "unit", "quick", "test", "docs"])
def test_make_knows_the_short_commands(target: str) -> None:
    # These tests may be run by make themselves.
    environment = {name: text for name, text in os.environ.items() if not name.startswith("MAKE")}
    said = subprocess.run(
        ["make", "--dry-run", "PYTHON=the-python", target],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30,
    ).stdout  # fmt: skip
    assert said.startswith("the-python -m ")
    assert f"`make {target}`" in (ROOT / "CONTRIBUTING.md").read_text()


def test_ci_lints_checks_and_tests_by_the_short_commands() -> None:
    ci = (ROOT / ".ci" / "run").read_text()
    assert 'make PYTHON="$python" "$target"' in ci
    for target in ("lint", "types"):
        assert f'make PYTHON="$python" {target}\n' in ci
    for target in ("test", "unit"):
        assert re.search(rf'^ *suite ".*python"? {target}\b', ci, re.MULTILINE)
    assert "grep -m1 -x 'pip install .* pytest .*' README.md" in ci


def test_what_needs_something_from_elsewhere_runs_only_where_it_is_named() -> None:
    described = PROJECT["tool"]["pytest"]["ini_options"]["markers"]
    markers = {marker.partition(":")[0] for marker in described}
    assert markers - {"slow", "executed"} == conftest._ELSEWHERE
