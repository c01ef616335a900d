"""Text with places that the values of an init request fill.

    --token={session_api_keys[0]}   sqlite:///{conversations_path:-/tmp}/x.db   {env.HF_TOKEN}

A place is a field's name, in lower case, or a variable that the caller delivers, after `env.`; an
item of a list may be picked by its number. After `:-` stands what is taken when nothing comes. Any
other braces are text, as `${NAME}` is; and where a place's form is to be text, they are doubled.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FORM: Final = (
    r"\{(?P<name>env\.[A-Za-z_][A-Za-z0-9_]*|[a-z][a-z0-9_]*)"
    r"(?:\[(?P<item>[0-9]{1,3})\])?(?::-(?P<default>[^{}]*))?\}"
)
_PLACE: Final = re.compile(rf"\{{(?P<doubled>{_FORM.replace('?P<', '?P<_')})\}}|(?<!\$){_FORM}")


class Place(NamedTuple):
    """`name` is a field's, or `env.` and a variable's."""

    name: str
    item: int | None = None
    default: str | None = None

    @property
    def variable(self) -> str | None:
        """The delivered variable that is meant, None for a field."""
        return self.name.removeprefix("env.") if self.name.startswith("env.") else None

    def __str__(self) -> str:
        return self.name if self.item is None else f"{self.name}[{self.item}]"


@dataclass(frozen=True)
class Template:
    """A text that may have places; for other fields than `fields`, if given, it has none."""

    text: str = field(repr=False)
    fields: frozenset[str] | None = None

    @property
    def places(self) -> Iterator[Place]:
        for found in _PLACE.finditer(self.text):
            if found["doubled"] is None and self._meant(found):
                yield _place(found)

    @property
    def only_place(self) -> Place | None:
        """The place that is all of the text, or None."""
        found = _PLACE.fullmatch(self.text)
        if found is None or found["doubled"] is not None or not self._meant(found):
            return None
        return _place(found)

    def fill(self, value: Callable[[Place], str]) -> str:
        """The text, each place as `value` has it."""

        def filled(found: re.Match[str]) -> str:
            if not self._meant(found):
                return found[0]
            return found["doubled"] or value(_place(found))

        return _PLACE.sub(filled, self.text)

    def _meant(self, found: re.Match[str]) -> bool:
        name = found["name"] or found["_name"]
        return self.fields is None or name in self.fields or name.startswith("env.")

    def __str__(self) -> str:
        return self.text


def _place(found: re.Match[str]) -> Place:
    item: Any = found["item"]
    return Place(found["name"], None if item is None else int(item), found["default"])
