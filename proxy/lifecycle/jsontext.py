"""JSON from a stranger, read in one way only.

`json.loads` takes the last of two equal names, NaN, an infinite 1e999 and half a surrogate pair;
the upstream's reader may take them otherwise or break on them later. All of that is refused here,
with the place, and without quoting a value: it may be a credential.
"""

from __future__ import annotations

import codecs
import json
import math
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import BodyTooLargeError, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]

# Far beyond any real request, and far below where a recursive reader of the same text (ours, the
# upstream's) runs out of stack.
MAX_DEPTH: Final = 32

# Far beyond any real request too; a megabyte of `1,1,1,...` would otherwise be judged for seconds
# in which the pod answers nobody. So they are counted before anything is made of them.
MAX_VALUES: Final = 2000

_SHOWN_NAME: Final = 64  # characters of a stranger's name that are worth repeating
_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9_-]+\Z")
_UNSENDABLE: Final = re.compile("[\x00\ud800-\udfff]")


class _NotJsonError(ValueError):
    """A fault found by a hook of the reader; the text is fit to be shown."""


def read_object(body: bytes) -> dict[str, Any]:
    """Read `body` as one JSON object.

    Raises `RequestError` (400) naming fault and place, `BodyTooLargeError` (413) for one of more
    than `MAX_VALUES` values.
    """
    if _most_values(body) > MAX_VALUES and _most_values(_without_strings(body)) > MAX_VALUES:
        raise BodyTooLargeError(f"cannot read the init request: more than {MAX_VALUES} values")
    try:
        data = _loads(body)
    except _NotJsonError as error:
        raise RequestError(f"cannot read the init request: {error}") from None
    if not isinstance(data, dict):
        raise RequestError(
            f"cannot read the init request: the body must be a JSON object, not {kind(data)}"
        )
    for path, _ in walk(data):
        if len(path) > MAX_DEPTH:
            raise RequestError(
                f"cannot read the init request: nested deeper than {MAX_DEPTH} levels"
            )
    return data


def _most_values(text: bytes) -> int:
    """How many values JSON of these commas and brackets can have, those within strings included."""
    return sum(map(text.count, (b",", b"[", b"{")))


def _open_brackets(text: bytes) -> int:
    plain = _without_strings(text)
    return sum(map(plain.count, (b"[", b"{"))) - sum(map(plain.count, (b"]", b"}")))


def _without_strings(body: bytes) -> bytes:
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    return b"".join(plain.split(b'"')[::2])


def _loads(body: bytes) -> Any:
    if not body.strip():
        raise _NotJsonError("the body is empty; send {} for a request without fields")
    if body.startswith(codecs.BOM_UTF8):
        raise _NotJsonError("the body begins with a byte order mark")
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
        )
    except UnicodeDecodeError as error:
        raise _NotJsonError(f"not UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        # How deep an interpreter reads before it gives up differs between versions.
        if _open_brackets(error.doc[: error.pos].encode()) > MAX_DEPTH:
            raise _NotJsonError(f"nested deeper than {MAX_DEPTH} levels") from None
        where = f"line {error.lineno}, column {error.colno}"
        raise _NotJsonError(f"not JSON at {where}") from None
    except RecursionError:
        raise _NotJsonError(f"nested deeper than {MAX_DEPTH} levels") from None
    except _NotJsonError:
        raise
    except ValueError:  # int() refuses thousands of digits
        raise _NotJsonError("a number has too many digits") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    read: dict[str, Any] = {}
    for name, value in pairs:
        if name in read:
            raise _NotJsonError(f"the name {quoted(name)} is given twice in one object")
        read[name] = value
    return read


def _no_constant(text: str) -> float:
    raise _NotJsonError(f"{text} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise _NotJsonError("a number is too large")
    return number


def walk(data: Any) -> Iterator[tuple[Path, Any]]:
    """Every value of `data` with its path, the outermost first. Needs no stack."""
    pending: list[tuple[Path, Any]] = [((), data)]
    while pending:
        path, value = pending.pop()
        yield path, value
        if isinstance(value, dict):
            pending += [((*path, name), item) for name, item in reversed(value.items())]
        elif isinstance(value, list):
            pending += [((*path, i), item) for i, item in reversed([*enumerate(value)])]


def unsendable(data: Any) -> Iterator[tuple[Path, str]]:
    """Path and fault of every text that cannot be an environment value or a line of a file."""
    for path, value in walk(data):
        if path and isinstance(path[-1], str) and _UNSENDABLE.search(path[-1]):
            yield path, f"the name contains {_what(path[-1])}"
        if isinstance(value, str) and _UNSENDABLE.search(value):
            yield path, f"contains {_what(value)}"


def _what(text: str) -> str:
    return "a NUL character" if "\x00" in text else "half of a surrogate pair"


def kind(value: object) -> str:
    """What JSON calls a value of this type, with its article."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    names = {str: "a string", int: "a number", float: "a fraction", list: "a list"}
    return names.get(type(value), "an object")


def quoted(name: str) -> str:
    """A stranger's name for a message: ASCII, short, and nothing after `=`.

    `KEY=value` sent as a name carries a value.
    """
    head, equals, _ = name.partition("=")
    shown = head[:_SHOWN_NAME]
    return json.dumps(shown + ("…" if len(shown) < len(head) or equals else "")).replace(
        "\\u2026", "..."
    )


def dotted(path: Path) -> str:
    """A path as `webhooks[0].base_url`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_NAME.match(part) and len(part) <= _SHOWN_NAME:
            text += f".{part}" if text else part
        else:
            text += f"[{quoted(part)}]"
    return text
