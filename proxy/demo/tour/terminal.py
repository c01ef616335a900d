"""The tour's output: plain, aligned, coloured only where a person looks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from typing import TextIO

# Width of the column that says what is done; answers start behind it.
_WHAT: Final = 38


class Terminal:
    """Writes to `out`; colour on a terminal that can, unless NO_COLOR says no (no-color.org)."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._colour = (
            out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        )

    def line(self, text: str = "") -> None:
        self._out.write(f"{text}\n")
        self._out.flush()

    def heading(self, text: str) -> None:
        self.line()
        self.line(self._paint("1", text))

    def step(self, seconds: float, what: str, answer: str, colour: str = "") -> None:
        took = self._paint("2", f"{seconds * 1000:8.1f} ms")
        self.line(f"{took}  {what:<{_WHAT}}  {self._paint(colour, self.safe(answer))}")

    def failure(self, seconds: float, what: str, why: str) -> None:
        self.step(seconds, what, f"FAILED: {why}", "1;31")

    def safe(self, text: str) -> str:
        """Not every terminal takes every character, and none should obey a server's answer."""
        plain = "".join(c if c.isprintable() else "?" for c in text)
        encoding = self._out.encoding or "ascii"
        return plain.encode(encoding, "replace").decode(encoding)

    def _paint(self, colour: str, text: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self._colour and colour else text
