"""Read a YAML file as settings want it: exactly, and with the line of every key.

PyYAML's own loaders are not used past the parser's events, for what they would do silently: take
the last of two equal keys, read `0600` as 384, `12:30` as 750 and `no` as false, build the ten
thousand copies that a few aliases stand for, or overflow the C stack on deep nesting. Scalars are
those of YAML 1.2's core schema; besides, a number with a leading zero is text.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.settings.reading.faults import Fault, Origins, Path

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path as FilePath

    from yaml import MarkedYAMLError

# More than any settings need; the bound is against a wrong file, such as a disk image or a log.
_MOST_BYTES: Final = 1_048_576
_DEEPEST: Final = 32
_MOST_NODES: Final = 50_000

_TOO_DEEP: Final = f"is nested deeper than {_DEEPEST} levels"

# What stands where the parser gives up is most often one of these.
_SLIPS: Final = {
    "\t": "a tab stands where only spaces may; indent with spaces",
    ":": "a colon stands where no key can; check the indentation, or write the text in quotes",
} | dict.fromkeys("`@%", "a text cannot begin with this character; write it in quotes")

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL: Final = {"true": True, "True": True, "TRUE": True} | {
    "false": False,
    "False": False,
    "FALSE": False,
}
# Eighteen digits are within 64 bits; longer ones become floats and are refused by their bounds.
_INT: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_FLOAT: Final = re.compile(
    r"[-+]?([1-9][0-9]*|[0-9]*\.[0-9]+|[0-9]+\.)([eE][-+]?[0-9]{1,4})?", re.ASCII
)
_SPECIAL: Final = re.compile(r"([-+]?)\.(inf|Inf|INF)|()\.(nan|NaN|NAN)")
_TEXT_TAG: Final = "tag:yaml.org,2002:str"
_MERGE: Final = "<<"


class UnreadableError(Exception):
    """The file as a whole cannot be used; the text says why, with the file's name in front."""


@dataclass
class Document:
    """What a file says: `data` is a mapping of plain values, `faults` is what was wrong in it."""

    data: dict[str, Any] = field(default_factory=dict)
    origins: Origins = field(default_factory=Origins)
    faults: list[Fault] = field(default_factory=list)


def read_yaml(file: FilePath) -> Document:
    """Read the settings in `file`. Raises `UnreadableError`."""
    text = _read_text(file)
    import yaml  # noqa: PLC0415  a pod that is configured by its environment does not carry it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return _Builder(yaml.parse(text, loader)).document()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = "has a control character, or another that YAML does not allow"
        raise UnreadableError(f"{file}:{line}: {problem}") from None
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(f"{file}{_said(error, text)}") from None
    except (yaml.YAMLError, ValueError, OverflowError):
        raise UnreadableError(f"{file}: is not YAML") from None
    except _UnusableError as error:
        raise UnreadableError(f"{file}:{error.line}: {error}") from None


def _said(error: MarkedYAMLError, text: str) -> str:
    """Place and problem, in our words as far as the place tells it; else in the parser's."""
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return ": is not YAML"
    # The parser has a limit too, and reads ahead of us. Brackets in quotes are counted as well:
    # something is wrong with the file in any case.
    seen = Counter(text[: mark.index])
    if seen["["] + seen["{"] - seen["]"] - seen["}"] > _DEEPEST:
        return f":{mark.line + 1}: {_TOO_DEEP}"
    slip = _SLIPS.get(text[mark.index : mark.index + 1])
    words = ", ".join(part for part in (error.context, error.problem) if part)
    return f":{mark.line + 1}:{mark.column + 1}: {slip or f'is not YAML: {words}'}"


def _read_text(file: FilePath) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_MOST_BYTES + 1)
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise UnreadableError(f"{file}: cannot be read: {cause}") from None
    if len(content) > _MOST_BYTES:
        raise UnreadableError(f"{file}: is larger than {_MOST_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"{file}:{line}: is not UTF-8") from None


class _UnusableError(Exception):
    def __init__(self, problem: str, line: int) -> None:
        super().__init__(problem)
        self.line = line


class _Builder:
    """Builds plain values from the parser's events, one node at a time."""

    def __init__(self, events: Iterator[Any]) -> None:
        self._events = events
        self._anchors: dict[str, tuple[Any, int]] = {}  # value, number of nodes
        self._nodes = 0
        self._result = Document()

    def document(self) -> Document:
        import yaml  # noqa: PLC0415  imported already, by whoever made the events

        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                break
        else:
            return self._result  # empty: every setting from its default or the environment
        data = self._node(next(self._events), ())
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _UnusableError("a second document begins; settings are one", _line(event))
        if isinstance(data, dict):
            self._result.data = data
        elif data is not None:
            raise _UnusableError("must be a mapping of keys to values", 1)
        return self._result

    def _node(self, event: Any, path: Path) -> Any:
        if len(path) > _DEEPEST:
            raise _UnusableError(_TOO_DEEP, _line(event))
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        before = self._count(1, event)
        # Known from its end on: an alias to it inside itself would be a circle.
        if kind == "ScalarEvent":
            value = self._scalar(event, path)
        elif kind == "SequenceStartEvent":
            value = self._sequence(event, path)
        else:
            value = self._mapping(event, path)
        if event.anchor is not None:
            self._anchors[event.anchor] = value, self._nodes - before
        return value

    def _count(self, nodes: int, event: Any) -> int:
        before = self._nodes
        self._nodes += nodes
        if self._nodes > _MOST_NODES:
            raise _UnusableError(
                f"has more than {_MOST_NODES} values (aliases counted as what they stand for)",
                _line(event),
            )
        return before

    def _alias(self, event: Any) -> Any:
        if event.anchor not in self._anchors:
            raise _UnusableError(f"no anchor {event.anchor!r} was completed before", _line(event))
        value, nodes = self._anchors[event.anchor]
        self._count(nodes, event)
        return value

    def _scalar(self, event: Any, path: Path) -> Any:
        if event.tag not in (None, _TEXT_TAG):
            self._fault(path, event, f"the tag {event.tag!r} is not supported")
            return None
        return _resolve(event.value) if event.tag is None and event.implicit[0] else event.value

    def _sequence(self, event: Any, path: Path) -> list[Any]:
        self._no_tag(event, path)
        items: list[Any] = []
        while type(inner := next(self._events)).__name__ != "SequenceEndEvent":
            place = (*path, len(items))
            self._result.origins.add_line(place, _line(inner))
            items.append(self._node(inner, place))
        return items

    def _mapping(self, event: Any, path: Path) -> dict[str, Any]:
        self._no_tag(event, path)
        items: dict[str, Any] = {}
        merged: list[Any] = []
        lines: dict[str, int] = {}
        while type(inner := next(self._events)).__name__ != "MappingEndEvent":
            key = self._node(inner, (*path, "?"))
            plain = type(inner).__name__ == "ScalarEvent" and inner.implicit[0]
            if key == _MERGE and plain:
                merged += self._merge(next(self._events), path)
                continue
            usable = self._usable(key, path, inner, lines)
            place = (*path, str(key) if usable else "?")
            if usable:
                self._result.origins.add_line(place, _line(inner))
            value = self._node(next(self._events), place)
            if usable:
                items[key] = value
                lines[key] = _line(inner)
        for other in merged:
            items = other | items
        return items

    def _usable(self, key: Any, path: Path, event: Any, lines: dict[str, int]) -> bool:
        if not isinstance(key, str):
            self._fault(path, event, "has a key that is not text; write it in quotes")
            return False
        if key in lines:
            problem = f"is given twice, first on line {lines[key]}"
            self._fault((*path, key), event, problem)
            return False
        return True

    def _merge(self, event: Any, path: Path) -> list[dict[str, Any]]:
        value = self._node(event, (*path, _MERGE))
        sources = value if isinstance(value, list) else [value]
        if all(isinstance(source, dict) for source in sources):
            return sources
        self._fault((*path, _MERGE), event, "must be a mapping, or a list of mappings")
        return []

    def _no_tag(self, event: Any, path: Path) -> None:
        if event.tag is not None:
            self._fault(path, event, f"the tag {event.tag!r} is not supported")

    def _fault(self, path: Path, event: Any, problem: str) -> None:
        self._result.faults.append(Fault(path, problem, line=_line(event)))


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _resolve(text: str) -> Any:
    """What a plain scalar means."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if special := _SPECIAL.fullmatch(text):
        return float((special[1] or "") + (special[2] or special[4]))
    return text
