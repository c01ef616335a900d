"""Pieces of Markdown, and JSON Schema in words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GENERATED: Final = "<!-- Written by `python -m docs.generate`; change the code it reads. -->\n"
# Seconds. The bound of every duration; said once, on the page.
A_YEAR: Final = 31_622_400
_WORDS: Final = {
    "string": "text",
    "integer": "whole number",
    "number": "number",
    "boolean": "`true` or `false`",
    "null": "`null`",
    "object": "mapping",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; pipes in cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(cell) for cell in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def code(value: object) -> str:
    """A JSON value as code; text without its quotes, unless there is nothing else to see."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = value if isinstance(value, str) and value else json.dumps(value)
    return f"`{text}`"


def listed(words: Sequence[str], last: str = "or") -> str:
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def kind(schema: dict[str, Any]) -> str:
    """The type of a value in words, its bounds included."""
    match schema:
        case {"anyOf": branches}:
            words = listed([kind(branch) for branch in branches])
        case {"$ref": reference}:
            words = _model(reference.rpartition("/")[2])
        case {"const": value}:
            words = code(value)
        case {"enum": values}:
            words = listed([code(value) for value in values])
        case {"type": "array", "items": items}:
            words = f"list of {kind(items)}" + (", not empty" if "minItems" in schema else "")
            words += f", at most {schema['maxItems']}" if "maxItems" in schema else ""
        case {"type": "object", "additionalProperties": dict(inner)}:
            words = f"mapping of names to {kind(inner)}"
        case {"type": name}:
            words = _WORDS[name] + _bounds(schema)
        case _:
            words = "any JSON value"
    return words


def _model(name: str) -> str:
    return "any JSON value" if name == "JsonValue" else f"[{name}](#{name.lower()})"


def _bounds(schema: dict[str, Any]) -> str:
    least, most = schema.get("minimum"), schema.get("maximum")
    if most == A_YEAR:
        most = None
    if least is not None and most is not None:
        return f", {least:,} to {most:,}"
    if "exclusiveMinimum" in schema:
        return f" over {schema['exclusiveMinimum']:g}"
    return "" if least is None else f", {least:g} or more"
