"""`log-events.md`: every message of the log, read off the calls that write it."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import proxy
from docs.generate.markdown import GENERATED, table

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """# Log events

Each record is one JSON object on a line: `time`, `level`, `logger`, `message`, and the fields below
(with `exception` where there is a traceback). A field that has nothing to tell is left out. `state
changed` also has `attempt`, `restarts` and `timings` when there are some. Lines of the upstream are
the messages of the logger `upstream`, with the field `stream`.
"""
_LEVELS: Final = {
    "debug": "debug",
    "info": "info",
    "warning": "warning",
    "error": "error",
    "exception": "error",
    "critical": "critical",
}
_PACKAGE: Final = Path(proxy.__file__).parent
# The sample agent's own log is its own affair.
_NOT_OURS: Final = "demo"


class _Event(NamedTuple):
    message: str
    level: str
    fields: str
    logger: str


def page() -> str:
    events = sorted({event for file in _files() for event in _events(file)})
    rows = [(f"`{e.message}`", e.level, e.fields, f"`{e.logger}`") for e in events]
    return GENERATED + _HEAD + "\n" + table(["message", "level", "fields", "logger"], rows)


def _files() -> Iterator[Path]:
    for file in sorted(_PACKAGE.rglob("*.py")):
        if file.relative_to(_PACKAGE).parts[0] != _NOT_OURS:
            yield file


def _events(file: Path) -> Iterator[_Event]:
    tree = ast.parse(file.read_text())
    logger = _logger(tree, file)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and (level := _level(call)):
                    fields = ", ".join(f"`{name}`" for name in _fields(call, function))
                    yield from (_Event(text, level, fields, logger) for text in _texts(call))


def _logger(tree: ast.Module, file: Path) -> str:
    """The name that the module's `getLogger` is given: its own, unless it says another."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "logging.getLogger":
            for argument in node.args:
                if isinstance(argument, ast.Constant):
                    return str(argument.value)
    return ".".join(["proxy", *file.relative_to(_PACKAGE).with_suffix("").parts])


def _level(call: ast.Call) -> str | None:
    function = call.func
    if isinstance(function, ast.Attribute) and ast.unparse(function.value) == "logger":
        return _LEVELS.get(function.attr)
    return None


def _texts(call: ast.Call) -> list[str]:
    """The message, or both of a choice; none where it is not ours (the upstream's lines)."""
    message = call.args[0]
    choice = [message.body, message.orelse] if isinstance(message, ast.IfExp) else [message]
    return [str(text.value) for text in choice if isinstance(text, ast.Constant)]


def _fields(call: ast.Call, function: ast.AST) -> list[str]:
    for keyword in call.keywords:
        if keyword.arg == "extra":
            return list(dict.fromkeys(_keys(keyword.value, function)))
    return []


def _keys(value: ast.AST, function: ast.AST) -> Iterator[str]:
    """Names that are written down in an expression, or in what its variables were given."""
    for node in ast.walk(value):
        if isinstance(node, ast.Dict):
            yield from _constants(node.keys)
        elif isinstance(node, ast.DictComp) and isinstance(node.generators[0].iter, ast.Tuple):
            yield from _constants(node.generators[0].iter.elts)
        elif isinstance(node, ast.Name):
            yield from _given(node.id, function)


def _given(variable: str, function: ast.AST) -> Iterator[str]:
    """The keys that the function puts into a variable of its own."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign | ast.AugAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        for target in targets:
            match target:
                case ast.Name(id=name) if name == variable:
                    for inner in ast.walk(value):
                        if isinstance(inner, ast.Dict):
                            yield from _constants(inner.keys)
                case ast.Subscript(value=ast.Name(id=name), slice=index) if name == variable:
                    yield from _constants([index])


def _constants(nodes: list[ast.expr] | list[ast.expr | None]) -> Iterator[str]:
    yield from (str(node.value) for node in nodes if isinstance(node, ast.Constant))
