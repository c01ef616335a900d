"""Masking of delivered values in text that people or machines will read.

The upstream may print anything it was given: its stderr becomes part of `error` and its lines
become part of the log, as does the target of a request. Whatever was delivered is therefore masked
on the way out, also in the forms that programs give to text: percent-encoded (a query), base64 (an
`Authorization: Basic`), escaped (JSON, Python's repr).

Plain searches, not one large pattern: arming is part of an activation, and compiling a pattern of
all forms would take longer than searching ever does.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MASK: Final = "***"

# The parts of a delivered value that spans lines (a PEM key) reach the log line by line.
# Shorter parts ("{", "-----") would mask ordinary text and give nothing away.
_SHORTEST_PART: Final = 8
# Characters. Longer values (a file in a variable) are not put into a query or a header.
_LONGEST_ENCODED: Final = 4096
# What JavaScript's encodeURIComponent leaves alone besides what Python's quote does.
_JAVASCRIPT: Final = "!'()*"


class Redactor:
    """Replaces every one of `values`, every long line of one, and its encoded forms, by `***`.

    Longer ones go first, so that a value which contains another leaves no rest behind.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        wanted: set[str] = set()
        for value in values:
            if not value.strip():
                continue  # blanks are everywhere and tell nothing
            wanted.update((value, value.strip()))
            lines = value.splitlines()
            if len(lines) > 1:
                wanted.update(p.strip() for p in lines if len(p.strip()) >= _SHORTEST_PART)
        for value in tuple(wanted):
            if len(value) <= _LONGEST_ENCODED:
                wanted.update(_encoded(value))
        self._wanted = tuple(sorted(wanted, key=lambda form: (-len(form), form)))

    def __call__(self, text: str) -> str:
        for form in self._wanted:
            if form in text:
                text = text.replace(form, MASK)
        return text

    def __repr__(self) -> str:
        return f"<Redactor {'armed' if self._wanted else 'empty'}>"


def _encoded(value: str) -> Iterator[str]:
    """The forms of `value` that differ from it and are long enough to tell something."""
    for ascii_only in (True, False):
        yield json.dumps(value, ensure_ascii=ascii_only)[1:-1]
    yield repr(value)[1:-1]
    data = value.encode(errors="surrogatepass")
    for form in {
        quote(data, safe=""), quote(data), quote_plus(data), quote(data, safe=_JAVASCRIPT)
    }:  # fmt: skip
        yield form
        yield _lower_case(form)
    for core in _base64_cores(data):
        if len(core) >= _SHORTEST_PART:
            yield core
            yield core.replace("+", "-").replace("/", "_")


def _lower_case(quoted: str) -> str:
    """Some write %2F, some %2f."""
    head, *rest = quoted.split("%")
    return "%".join([head, *(part[:2].lower() + part[2:] for part in rest)])


def _base64_cores(data: bytes) -> Iterator[str]:
    """What base64 makes of `data` wherever it stands in a longer text: three alignments.

    The first and last characters hold bits of the neighbours, so they are left out.
    """
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        first = -(-before * 8 // 6)
        whole = (before + len(data)) * 8 // 6
        yield text[first:whole]
