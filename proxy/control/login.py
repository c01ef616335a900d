"""A link that logs a browser in, where session keys are asked for at the gate.

Whoever holds the init key asks for it and gives it to the user: it works once, for a minute, and
sets the cookie that the gate knows. Neither has a session key in it, so that no address bar, log or
upstream does.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.errors import StateError, WrongKeyError

if TYPE_CHECKING:
    from collections.abc import Callable

PATH: Final = "/api/init/login"
# Seconds: from the link's making to a browser's asking, with a person in between at most once.
LIFETIME: Final = 60.0
# Links that nobody has used yet; the oldest gives way.
_MOST: Final = 100


class Login:
    """`ticket` is the cookie's value for whoever has the server, None while nobody has."""

    def __init__(
        self,
        prefix: str,
        ticket: Callable[[], str | None],
        *,
        cookie: str,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.path = prefix + PATH
        self._ticket = ticket
        self._cookie = cookie
        self._now = now
        self._links: dict[str, tuple[str, float]] = {}  # token -> ticket, until when

    async def link(
        self, check: Callable[[web.Request], None], request: web.Request
    ) -> web.Response:
        """A link for whoever has the init key, which `check` sees to. Raises `StateError`."""
        check(request)
        ticket = self._ticket()
        if ticket is None:
            raise StateError("there is nobody to log in: the server is not ready")
        while len(self._links) >= _MOST:
            del self._links[next(iter(self._links))]
        token = secrets.token_urlsafe()
        self._links[token] = ticket, self._now() + LIFETIME
        return web.json_response({"path": f"{self.path}?token={token}", "expires_in": LIFETIME})

    async def enter(self, request: web.Request) -> web.Response:
        """What the link's browser gets. Raises `WrongKeyError`."""
        ticket, until = self._links.pop(request.query.get("token", ""), ("", 0.0))
        if not ticket or ticket != self._ticket() or self._now() > until:
            raise WrongKeyError("the link was used already, or is too old")
        answer = web.Response(
            status=303,
            headers={
                "Location": _place(request.query.get("next", "/")),
                "Referrer-Policy": "no-referrer",
            },
        )
        answer.set_cookie(
            self._cookie,
            ticket,
            httponly=True,
            samesite="Lax",
            secure=request.headers.get("X-Forwarded-Proto") == "https",
        )
        return answer


def _place(wanted: str) -> str:
    """A path of this server and of no other: browsers take a second slash, of any kind, for one."""
    plain = wanted.isascii() and wanted.isprintable() and " " not in wanted
    own = wanted.startswith("/") and not wanted.startswith(("//", "/\\"))
    return wanted if plain and own else "/"
