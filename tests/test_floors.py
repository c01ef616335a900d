"""The house has floors: who may import whom, read off the source."""

from __future__ import annotations

import ast
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "proxy"

# Room -> the rooms it may know besides itself and the rooms within it. A room within a room has a
# line of its own where it may know less. `TYPE_CHECKING` imports count as well, except that the
# plan names the settings it is made of.
FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "processes": set(),
    "log": set(),
    "lifecycle": {"errors"},
    "settings": {"errors"},
    "relay": {"errors", "lifecycle"},
    "relay/http": set(),
    "relay/exchange": {"lifecycle", "relay/http"},
    "relay/telling": {"relay/exchange", "relay/http"},
    "relay/patience": {"lifecycle"},
    "relay/ends": {
        "errors",
        "lifecycle",
        "relay/exchange",
        "relay/http",
        "relay/patience",
        "relay/telling",
    },
    "activation": {"errors", "lifecycle", "settings"},
    # What a launcher that was killed has left is undone by its own code.
    "activation/launched": {
        "activation",
        "errors",
        "launcher",
        "lifecycle",
        "processes",
        "settings",
    },
    "control": {"errors", "lifecycle"},
    "client": {"errors"},
    "demo": {"errors", "client", "processes"},
    "server": {
        "activation",
        "control",
        "errors",
        "launcher",
        "lifecycle",
        "log",
        "relay",
        "settings",
    },
    "commands": {
        "activation",
        "client",
        "control",
        "demo",
        "errors",
        "launcher/record",  # a plan is read by who writes it
        "log",
        "processes",
        "server",
        "settings",
    },
    "launcher": set(),
    "launcher/errors": set(),
    "launcher/kernel": {"launcher/errors"},
    "launcher/session": {"launcher/errors", "launcher/kernel"},
    "launcher/upstream": {"launcher/errors", "launcher/kernel", "launcher/session"},
    "launcher/audit": {"launcher/session"},
    "launcher/fork": {"launcher/audit", "launcher/kernel", "launcher/session"},
    "launcher/warm": {
        "launcher/errors",
        "launcher/kernel",
        "launcher/session",
        "launcher/upstream",
    },
    "launcher/record": {
        "launcher/errors",
        "launcher/kernel",
        "launcher/session",
        "launcher/upstream",
        "launcher/warm",
    },
}
NAMED_ONLY: dict[str, set[str]] = {"lifecycle": {"settings"}, "relay/ends": {"settings"}}
TOP = {"__init__", "__main__", "cli"}  # knows every room
LIMIT = 12  # files in a room that can be taken in at a glance
LONG = 300  # lines

FILES = sorted(PACKAGE.rglob("*.py"))


def name_of(path: Path) -> str:
    """`proxy.relay.http.head`; a package by the name of its directory."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def room_of(name: str) -> str:
    """The innermost room with a floor of its own; a file at the top is a room by itself."""
    parts = name.split(".")[1:]
    while parts and "/".join(parts) not in FLOORS and len(parts) > 1:
        parts.pop()
    return "/".join(parts)


def imports(path: Path, *, typing: bool | None = None) -> set[str]:
    """Whole names of the modules that the file imports; `typing`: only those, or only others."""
    found: set[str] = set()
    package = name_of(path).split(".")
    if path.name != "__init__.py":
        package.pop()

    def visit(node: ast.AST, *, inside: bool) -> None:
        for child in ast.iter_child_nodes(node):
            named = inside or (
                isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
            )
            if typing in {None, named}:
                collect(child)
            visit(child, inside=named)

    def collect(node: ast.AST) -> None:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names = {f"{module}.{alias.name}" for alias in node.names}
            found.update(name if name in MODULES else module for name in names)

    visit(ast.parse(path.read_text()), inside=False)
    return found


def rooms_known(path: Path, *, typing: bool) -> set[str]:
    return {room_of(name) for name in imports(path, typing=typing) & set(MODULES)} - {""}


def is_within(room: str, other: str) -> bool:
    return other == room or other.startswith(room + "/")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_every_file_looks_only_down(path: Path) -> None:
    room = room_of(name_of(path))
    if room in TOP | {""}:
        return
    for typing in (False, True):
        allowed = FLOORS[room] | (NAMED_ONLY.get(room, set()) if typing else set())
        known = {other for other in rooms_known(path, typing=typing) if not is_within(room, other)}
        assert {other for other in known if not any(is_within(a, other) for a in allowed)} == set()


@pytest.mark.parametrize("typing", [False, None], ids=["at run time", "with the types"])
def test_no_circle_of_imports(*, typing: bool | None) -> None:
    graph = {
        name: imports(path, typing=typing) & set(MODULES) - {name} for name, path in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize(
    "path",
    sorted((PACKAGE / "launcher").rglob("*.py")),
    ids=lambda path: str(path.relative_to(PACKAGE / "launcher")),
)
def test_launcher_needs_the_standard_library_only(path: Path) -> None:
    others = {name for name in imports(path) if not name.startswith("proxy.launcher")}
    assert {name.split(".")[0] for name in others} <= set(sys.stdlib_module_names)


def test_every_room_has_a_floor_and_a_door() -> None:
    for path in FILES:
        room = room_of(name_of(path))
        assert room in TOP | {""} or room in FLOORS, path
        door = path.parent / "__init__.py"
        assert ast.get_docstring(ast.parse(door.read_text())), door


def test_every_room_is_taken_in_at_a_glance() -> None:
    rooms = {path.parent for path in FILES}
    crowded = {str(room.relative_to(PACKAGE)): len(list(room.glob("*.py"))) for room in rooms}
    assert {room for room, count in crowded.items() if count > LIMIT} == set()
    lines = {str(path.relative_to(PACKAGE)): path.read_text().count("\n") for path in FILES}
    assert not {path for path, count in lines.items() if count >= LONG}
