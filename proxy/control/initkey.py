"""The bootstrap key, which whoever claims the server has to show."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

from proxy.errors import WrongKeyError

if TYPE_CHECKING:
    from aiohttp import web


class InitKey:
    """`key` is None when none is needed; a blank one refuses everybody."""

    def __init__(self, key: str | None) -> None:
        self._key = key

    def check(self, request: web.Request) -> None:
        """Raises `WrongKeyError` unless the request has it."""
        if self._key is None:
            return
        given = request.headers.getall("X-Init-API-Key", [])
        # Bytes, because compare_digest takes no other non-ASCII; surrogateescape is how aiohttp
        # decoded them. One header only: of two, somebody else may have checked the other.
        right = hmac.compare_digest(
            (given[0] if given else "").encode("utf-8", "surrogateescape"),
            self._key.encode("utf-8", "surrogateescape"),
        )
        if not (right and len(given) == 1 and self._key.strip()):
            raise WrongKeyError("X-Init-API-Key is missing or wrong")
