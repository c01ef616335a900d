"""Faults of settings, and the words for them.

A fault is located by its path in the tree. `Origins` turns the path into what the author wrote:
a key of the YAML file with its line, an environment variable, or the command.

Values are shown where that helps and cannot hurt: scalars, and never under `SECRET`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin

from proxy.settings.mapping import Model
from proxy.settings.tree import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]

# Where values may be secrets ("*" is any key): passwords in the environment, tokens in arguments.
SECRET: Final[tuple[Path, ...]] = (
    ("init", "key"),
    ("upstream", "env"),
    ("upstream", "command"),
    ("upstream", "ready", "headers"),
    ("upstream", "standby", "requests"),
    ("upstream", "forward", "key"),
    ("upstream", "mapping", "files", "*", "base"),
    ("upstream", "mapping", "files", "*", "content"),
    ("upstream", "mapping", "files", "*", "values"),
    ("upstream", "mapping", "variables"),
)

_SHOWN_CHARACTERS: Final = 80
_PLAIN_KEY: Final = re.compile(r"[\w-]+", re.ASCII)

# For what has no line below; it names no library's words, and a test holds that nothing needs it.
UNFORESEEN: Final = "cannot be used"

_PROBLEMS: Final = {
    "extra_forbidden": "unknown key",
    "missing": "is missing",
    "string_type": "must be text",
    "string_unicode": "must be valid UTF-8",
    "string_too_short": "cannot be empty",
    "too_short": "cannot be empty",
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number of sensible size",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "value_error": "{error}",
}


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong at `path`; `hint` says what would be right."""

    path: Path
    problem: str
    hint: str | None = None
    line: int | None = None
    place: str | None = None  # instead of the path, where there is none
    about: tuple[Path, ...] = ()  # what else was looked at, for a rule between keys


@dataclass(frozen=True)
class Origin:
    """Where the value at `base` (and what is under it) was written."""

    base: Path
    name: str | None = None  # of the environment variable, or COMMAND; None: in the file
    line: int | None = None


@dataclass
class Origins:
    """Who wrote what; the entry with the longest path that leads to a value is its origin."""

    root: str = "settings"  # what a fault of no key in particular is located at
    _by_path: dict[Path, Origin] = field(default_factory=dict)

    def note(self, path: Path, origin: Origin) -> None:
        """`path` and everything under it come from `origin`."""
        for below in [known for known in self._by_path if known[: len(path)] == path]:
            del self._by_path[below]
        self._by_path[path] = origin

    def add_line(self, path: Path, line: int) -> None:
        """`path` is on `line` of the file; what is under it may have lines of its own."""
        self._by_path[path] = Origin(path, line=line)

    def line(self, fault: Fault) -> int | None:
        """Where in the file the fault is, if it is there."""
        return fault.line or self._origin(fault).line

    def _origin(self, fault: Fault) -> Origin:
        paths = (fault.path[:n] for n in range(len(fault.path), -1, -1))
        return next((self._by_path[path] for path in paths if path in self._by_path), Origin(()))

    def describe(self, fault: Fault) -> str:
        """The fault on one line, its place first and as the author wrote it."""
        origin, line = self._origin(fault), self.line(fault)
        place = fault.place or dotted(fault.path)
        if origin.name is not None:
            rest = dotted(fault.path[len(origin.base) :])
            place = origin.name + (f".{rest}" if rest and not rest.startswith("[") else rest)
        text = f"{place or self.root}: {fault.problem}"
        text += f"; {fault.hint}" if fault.hint else ""
        text += f" (line {line})" if line else ""
        return printable(text)


def printable(text: str) -> str:
    """One line, fit for any terminal: names of files and variables may hold any character."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def dotted(path: Path) -> str:
    """`upstream.ready.statuses[0]`; odd keys in brackets and quotes."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            # `KEY=value` written as a name carries a value.
            name, equals, _ = part.partition("=")
            text += f"[{name[:_SHOWN_CHARACTERS] + equals!r}]"
    return text


def closest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known word that `word` was probably meant to be."""
    import difflib  # noqa: PLC0415  only for faults: a pod that starts does not carry it

    found = difflib.get_close_matches(word, list(known), n=1, cutoff=cutoff)
    return found[0] if found else None


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    found = closest(word, known)
    return f"did you mean {found}?" if found else None


def sections(model: type[Model] = Settings, path: Path = ()) -> Iterator[tuple[Path, type[Model]]]:
    """Every mapping of the tree whose keys are known, from the root down."""
    yield path, model
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, Model):
            yield from sections(info.annotation, (*path, name))


def _model_at(path: Path) -> type[Model] | None:
    """The model whose keys stand at `path`."""
    node: Any = Settings
    for part in path:
        if isinstance(node, type) and issubclass(node, Model):
            info = node.model_fields.get(str(part))
            node = info.annotation if info else None
        elif get_origin(node) is dict:
            node = get_args(node)[1]
        else:
            return None
    return node if isinstance(node, type) and issubclass(node, Model) else None


def is_secret(path: Path) -> bool:
    return any(
        len(path) >= len(secret)
        and all(ours in ("*", theirs) for ours, theirs in zip(secret, path, strict=False))
        for secret in SECRET
    )


def shown(path: Path, value: Any) -> str | None:
    """The value as fit for a report; None when it should not be in one."""
    scalar = value is None or isinstance(value, bool | int | float | str)
    if not scalar or is_secret(path) or _model_at(path) is not None:
        return None
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        # The password of a URL is a secret wherever it stands.
        value = re.sub(r"//[^/]*@", "//***@", value)
    text = repr(value)
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def from_pydantic(error: ErrorDetails) -> Fault:
    """Say in our words what a validation found."""
    # A fault of a mapping's key is located at the key, followed by a marker.
    path = tuple(part for part in error["loc"] if part != "[key]")
    context = {
        # A bound reads as it is written: 60, not 60.0.
        key: int(value) if isinstance(value, float) and value.is_integer() else value
        for key, value in error.get("ctx", {}).items()
    }
    if error["type"] == "extra_forbidden":
        return _unknown_key(path)
    if "expected" in context:
        words = _choices(error)
        context["expected"] = " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))
    problem = _PROBLEMS.get(error["type"], UNFORESEEN).format_map(context)
    value = shown(path, error["input"]) if error["type"] != "missing" else None
    if value is not None:
        whole = error["type"] == "value_error"  # a cause in a parser's own words
        problem = f"cannot be {value}: {problem}" if whole else f"{problem}, not {value}"
    return Fault(path, problem, _hint(path, error))


def _choices(error: ErrorDetails) -> list[str]:
    """What a literal can be, each in quotes."""
    return re.findall(r"'\w+'", str(error.get("ctx", {}).get("expected")))


def _hint(path: Path, error: ErrorDetails) -> str | None:
    value = error["input"]
    if error["type"] == "literal_error" and isinstance(value, str):
        return did_you_mean(value, [word.strip("'") for word in _choices(error)])
    if value is None:
        return "leave the key out for its default"
    if error["type"] == "tuple_type" and isinstance(value, str):
        words = "[program, argument, ...]" if path[-1] == "command" else "[a, b]"
        return f"write it as {words}"
    if error["type"] == "string_type" and isinstance(value, bool | int | float):
        literal = shown(path, value)
        return "write it in quotes" + (f': "{literal}"' if literal else "")
    return None


def _unknown_key(path: Path) -> Fault:
    name = str(path[-1])
    model = _model_at(path[:-1])
    hint = did_you_mean(name, model.model_fields) if model else None
    return Fault(path, "unknown key", hint or _elsewhere(name))


def _elsewhere(name: str) -> str | None:
    """A key that was put into the wrong section, or into none."""
    places = [(*above, key) for above, section in sections() for key in section.model_fields]
    meant = closest(name, {str(place[-1]) for place in places}, cutoff=0.8)
    found = [dotted(place) for place in places if place[-1] == meant]
    return f"did you mean {' or '.join(found)}?" if found else None
