"""Masking of delivered values in text that people or machines will read.

The upstream may print anything it was given: its stderr becomes part of `error` and its lines
become part of the log. Whatever was delivered is therefore masked on the way out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "***"

# The parts of a delivered value that spans lines (a PEM key) reach the log line by line.
# Shorter parts ("{", "-----") would mask ordinary text and give nothing away.
_SHORTEST_PART: Final = 8


class Redactor:
    """Replaces every one of `values`, and every long line of one, by `***`.

    Longer values go first, so that a value which contains another leaves no rest behind.
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
        self._pattern = (
            re.compile("|".join(re.escape(v) for v in sorted(wanted, key=len, reverse=True)))
            if wanted
            else None
        )

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def __repr__(self) -> str:
        return f"<Redactor {'armed' if self._pattern else 'empty'}>"
