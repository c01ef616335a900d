"""CORS of what the proxy answers itself: a page of another origin may see why it was refused.

Pure. What the upstream answers is the upstream's affair, and so are preflights that reach it. The
proxy's answers depend on no cookie, so a page may read them with credentials or without.

(Fetch standard, sections 3.3.2 and 3.3.3.)
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

Headers = tuple[tuple[str, str], ...]

# What goes back as it came.
_ECHOED: Final = re.compile(r"[!-~]+(?:[ \t]*,[ \t]*[!-~]+)*")
# Beside what every page may read: when to come back, and what to ask about.
_EXPOSED: Final = "Retry-After, X-Request-ID"


class Cors:
    """Whose pages may read an answer: `origins`, or those that were delivered.

    An origin is as a browser sends it; in patterns * and ? stand for any text, * alone for all.
    """

    def __init__(self, origins: Iterable[str] = ()) -> None:
        self._own = _pattern(origins)
        self._present = self._own

    def deliver(self, origins: Iterable[str] | None) -> None:
        """From here on these may; with None the proxy's own."""
        self._present = self._own if origins is None else _pattern(origins)
        re.purge()  # it would keep what a user's origins were

    def headers(self, origin: str | None) -> Headers:
        """What an answer to a page of `origin` carries; nothing where that may not read it."""
        if origin is None or not self._allows(origin):
            return ()
        return (
            ("Access-Control-Allow-Origin", origin),
            ("Access-Control-Allow-Credentials", "true"),
            ("Access-Control-Expose-Headers", _EXPOSED),
            ("Vary", "Origin"),
        )

    def preflight(self, origin: str | None, method: str | None, names: str | None) -> Headers:
        """What else a preflight is told, which asks for a method and header names.

        Nothing where it is none, or may not. It is not remembered: who answers may change.
        """
        asked = [method or "", *([names] if names else [])]
        if origin is None or not self._allows(origin) or not all(map(_ECHOED.fullmatch, asked)):
            return ()
        allowed = (("Access-Control-Allow-Headers", names),) if names else ()
        return (
            ("Access-Control-Allow-Methods", asked[0]),
            *allowed,
            ("Access-Control-Max-Age", "0"),
        )

    def _allows(self, origin: str) -> bool:
        return bool(self._present.fullmatch(origin) and _ECHOED.fullmatch(origin))


def _pattern(origins: Iterable[str]) -> re.Pattern[str]:
    forms = [".*" if each == "*" else _form(each.lower()) for each in origins]
    return re.compile("|".join(forms) or r"(?!)")


def _form(origin: str) -> str:
    return re.escape(origin).replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
