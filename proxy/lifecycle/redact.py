"""Masking of delivered values in text that people or machines will read.

The upstream may print anything it was given: its stderr becomes part of `error` and its lines
become part of the log, as does the target of a request. Whatever was delivered is therefore masked
on the way out, also in the forms that programs give to text: percent-encoded (a query), base64 (an
`Authorization: Basic`), escaped (JSON, Python's repr).

Each form is searched for by itself while there are few, which are armed at once and missed cheaply.
Many are found in one pass over the text, whose cost does not grow with their number.
"""

from __future__ import annotations

import base64
import bisect
import json
import re
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from proxy.lifecycle.jsontext import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from proxy.settings import MappingSettings

MASK: Final = "***"

# The parts of a delivered value that spans lines (a PEM key) reach the log line by line.
# Shorter parts ("{", "-----") would mask ordinary text and give nothing away.
_SHORTEST_PART: Final = 8
# Characters. Longer values (a file in a variable) are not put into a query or a header.
_LONGEST_ENCODED: Final = 4096
# Values whose encoded forms are looked for, whole ones before lines: more than any request has that
# means no harm.
_MOST_ENCODED: Final = 4000
# What JavaScript's encodeURIComponent leaves alone besides what Python's quote does.
_JAVASCRIPT: Final = {"%21": "!", "%27": "'", "%28": "(", "%29": ")", "%2A": "*"}
_CODE: Final = re.compile("%..")

# Forms that are few enough to be searched for one by one, characters by which many are found, and
# the longest of those: three for each of a value that is encoded.
_FEW: Final = 256
_GRAM: Final = 4
_LONG: Final = 3 * _LONGEST_ENCODED

# A key is masked whatever its length. An ordinary variable (`1`, `true`, `/tmp`) would take common
# words out of the log, so it must be long enough for a credential, or be called like one.
_MASKED_LENGTH: Final = 8
_MASKED_LENGTH_IF_SECRET: Final = 4
_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|PWD|CREDENTIAL|AUTH|COOKIE", re.IGNORECASE)
_KEY_FIELDS: Final = ("session_api_keys", "secret_key", "previous_secret_keys")


def secrets_of(
    delivered: Mapping[str, Any], environment: Mapping[str, str], mapping: MappingSettings
) -> Iterator[str]:
    """The values of a request that are masked in everything the upstream says."""
    own = (name for name, to in mapping.fields.items() if to.type == "secret" or to.generate)
    for name in (*_KEY_FIELDS, *own):
        for _, value in walk(delivered.get(name)):
            if isinstance(value, str):
                yield value
    for name, value in environment.items():
        shortest = _MASKED_LENGTH_IF_SECRET if _SECRET_NAME.search(name) else _MASKED_LENGTH
        if len(value) >= shortest:
            yield value
    for name in ("webhooks", "telemetry"):
        for _, value in walk(delivered.get(name)):
            if isinstance(value, str) and len(value) >= _MASKED_LENGTH:
                yield value
                # `Bearer x`: the x also by itself.
                yield from (part for part in value.split() if len(part) >= _MASKED_LENGTH)


class Redactor:
    """Replaces every one of `values`, every long line of one, and its encoded forms, by `***`.

    Where they overlap all of it is replaced, so that none leaves a rest behind. `longest` is the
    length of the longest form.
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        whole: set[str] = set()
        parts: set[str] = set()
        for value in values:
            if not value.strip():
                continue  # blanks are everywhere and tell nothing
            whole.update((value, value.strip()))
            lines = value.splitlines()
            if len(lines) > 1:
                stripped = map(str.strip, lines)
                parts.update(part for part in stripped if len(part) >= _SHORTEST_PART)
        wanted = whole | parts
        for value in [*whole, *parts][:_MOST_ENCODED]:
            if len(value) <= _LONGEST_ENCODED:
                wanted.update(_encoded(value))
        self.longest = max(map(len, wanted), default=0)
        self._one_by_one, self._sorted = sorted(wanted), list[str]()
        if len(wanted) > _FEW:
            self._sorted = [form for form in self._one_by_one if _GRAM <= len(form) <= _LONG]
            self._one_by_one = sorted(wanted.difference(self._sorted))
        self._grams = frozenset(form[:_GRAM] for form in self._sorted)
        self._within = _within(self._sorted)

    def __call__(self, text: str) -> str:
        end, kept = 0, []
        for begin, after in self.spans(text):
            kept.append(text[end:begin])
            end = after
        return MASK.join([*kept, text[end:]]) if kept else text

    def spans(self, text: str, near: int | None = None) -> list[tuple[int, int]]:
        """Where in `text` the values stand, in order; those that overlap are one.

        With `near` those elsewhere may be left out.
        """
        low, high = (0, len(text)) if near is None else (max(0, near - 3 * _LONG), near + _LONG)
        found = [*self._each(text), *self._many(text, low, high)]
        merged: list[tuple[int, int]] = []
        for begin, after in sorted(found):
            if merged and begin < merged[-1][1]:
                merged[-1] = merged[-1][0], max(after, merged[-1][1])
            else:
                merged.append((begin, after))
        return merged

    def _each(self, text: str) -> Iterator[tuple[int, int]]:
        for form in [form for form in self._one_by_one if form in text]:
            begin = text.find(form)
            while begin >= 0:
                yield begin, begin + len(form)
                begin = text.find(form, begin + len(form))

    def _many(self, text: str, low: int, high: int) -> Iterator[tuple[int, int]]:
        """The longest form at each place: of all in order the last that begins what is there."""
        if not self._sorted:
            return
        for begin in range(low, min(high, len(text) - _GRAM + 1)):
            if text[begin : begin + _GRAM] not in self._grams:
                continue
            index = bisect.bisect_right(self._sorted, text[begin : begin + _LONG]) - 1
            while index >= 0 and not text.startswith(self._sorted[index], begin):
                index = self._within[index]
            if index >= 0:
                yield begin, begin + len(self._sorted[index])

    def __repr__(self) -> str:
        return f"<Redactor {'armed' if self.longest else 'empty'}>"


def _encoded(value: str) -> Iterator[str]:
    """The forms of `value` that differ from it and are long enough to tell something."""
    for ascii_only in (True, False):
        escaped = json.dumps(value, ensure_ascii=ascii_only)[1:-1]
        yield escaped
        if "\\" in escaped:  # JSON that is a text in JSON, or shown by a repr
            yield json.dumps(escaped)[1:-1]
            yield json.dumps(escaped, ensure_ascii=False)[1:-1]
            yield repr(escaped)[1:-1]
    yield repr(value)[1:-1]
    data = value.encode(errors="surrogatepass")
    quoted = quote(data, safe="")
    if quoted != value:
        slashed = quoted.replace("%2F", "/")
        javascript = quoted
        for code, character in _JAVASCRIPT.items():
            javascript = javascript.replace(code, character)
        for form in (quoted, slashed, quoted.replace("%20", "+"), javascript):
            yield form
            yield _CODE.sub(lambda code: code[0].lower(), form)  # some write %2F, some %2f
    for core in _base64_cores(data):
        if len(core) >= _SHORTEST_PART:
            yield core
            yield core.replace("+", "-").replace("/", "_")


def _within(forms: list[str]) -> list[int]:
    """For each of the sorted forms the index of the longest other one that begins it; -1 if none.

    A form that begins a text stands before it in this order, and begins whatever stands between.
    """
    links: list[int] = []
    for index, form in enumerate(forms):
        link = index - 1
        while link >= 0 and not form.startswith(forms[link]):
            link = links[link]
        links.append(link)
    return links


def _base64_cores(data: bytes) -> Iterator[str]:
    """What base64 makes of `data` wherever it stands in a longer text: three alignments.

    The first and last characters hold bits of the neighbours, so they are left out.
    """
    for before in range(3):
        text = base64.b64encode(b"\0" * before + data).decode()
        first = -(-before * 8 // 6)
        whole = (before + len(data)) * 8 // 6
        yield text[first:whole]
