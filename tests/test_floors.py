"""The house has floors: who may import whom, read off the source."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "proxy"

# Room -> the rooms it may know besides itself. `TYPE_CHECKING` imports count as well, except that
# the plan names the settings it is made of.
FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "log": {"logpipe"},
    "logpipe": set(),
    "upstreamlog": set(),
    "early": set(),
    "process": {"early"},
    "stopping": {"early"},
    "doorkeeper": {"control", "lifecycle", "relay", "settings"},
    "listen": {"errors", "settings"},
    "admin": {"errors", "listen", "settings"},
    "lifecycle": {"errors"},
    "settings": {"errors"},
    "relay": {"errors", "lifecycle"},
    "activation": {"errors", "lifecycle", "settings"},
    "control": {"errors", "lifecycle"},
    "starters": {"activation", "errors", "launcher", "lifecycle", "settings"},
    "launcher": set(),
    "client": {"errors"},
    "demo": {"errors", "client"},
}
NAMED_ONLY: dict[str, set[str]] = {"lifecycle": {"settings"}, "relay": {"settings"}}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path, *, typing_only: bool) -> set[str]:
    """Top-level names under `proxy` (or whole modules elsewhere) that the file imports."""
    found: set[str] = set()

    def visit(node: ast.AST, *, typing: bool) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
                for inner in child.body:
                    collect(inner, typing=True)
                continue
            collect(child, typing=typing)
            visit(child, typing=typing)

    def collect(node: ast.AST, *, typing: bool) -> None:
        if typing is not typing_only:
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            if node.module == "proxy":
                found.update(f"proxy.{alias.name}" for alias in node.names)
            else:
                found.add(node.module)

    visit(ast.parse(path.read_text()), typing=False)
    return found


def rooms_known(path: Path, *, typing_only: bool) -> set[str]:
    names = imports(path, typing_only=typing_only)
    return {name.split(".")[1] for name in names if name.startswith("proxy.")} - {"__version__"}


FILES = sorted(path for path in PACKAGE.rglob("*.py") if room_of(path) in FLOORS)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_looks_only_down(path: Path) -> None:
    room = room_of(path)
    known = rooms_known(path, typing_only=False) - {room}
    assert known <= FLOORS[room]
    named = rooms_known(path, typing_only=True) - {room}
    assert named <= FLOORS[room] | NAMED_ONLY.get(room, set())


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "launcher").glob("*.py")), ids=lambda path: path.name
)
def test_launcher_needs_the_standard_library_only(path: Path) -> None:
    modules = {name.split(".")[0] for name in imports(path, typing_only=False)}
    own = {file.stem for file in (PACKAGE / "launcher").glob("*.py")}
    assert modules <= set(sys.stdlib_module_names) | own


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in PACKAGE.rglob("*.py")}
    assert rooms - set(FLOORS) <= {"__init__", "__main__", "cli", "serve", "commands"}
