"""Claims: an init request that can be asked again, by `Idempotency-Key`.

An orchestrator that lost the answer to its `POST /api/init` cannot tell whether it was accepted. A
request with a claim id can be sent again: the same claim with the same body joins the activation
that it began, or hears of its success; every other request with a claim id is refused, and is not
told in what it differs.

Only keyed digests are kept, of the id and of the body, byte for byte. There is one claim at a
time, as there is one activation, and it is of interest only while the server is not free: it
outlives restarts of the upstream, and is forgotten with the proxy's own process. After that the
state tells that the server is taken, and the claim is refused like any other.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final

from proxy.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

# A UUID has 36 characters, a Kubernetes name with its namespace 317.
LONGEST_ID: Final = 512


def read_claim_id(values: Sequence[str]) -> str | None:
    """The claim id of a request's `Idempotency-Key` headers, None without one.

    The quotes of a structured field (RFC 8941) are part of it. Raises `RequestError`.
    """
    if not values:
        return None
    claim = values[0]
    if len(values) > 1:
        raise RequestError("Idempotency-Key: is given more than once")
    if not claim or len(claim) > LONGEST_ID or not (claim.isascii() and claim.isprintable()):
        raise RequestError(f"Idempotency-Key: must be 1 to {LONGEST_ID} printable ASCII characters")
    return claim


class Claims:
    """The claim that holds the server, if its request had an id."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._claim = b""
        self._body = b""

    def take(self, claim: str | None, body: bytes) -> None:
        """The request is accepted: from now on the server is this claim's, or nobody's by name."""
        self._claim = self._digest(claim.encode()) if claim is not None else b""
        self._body = self._digest(body) if claim is not None else b""

    def release(self) -> None:
        """What holds the server is none of the requests that came here."""
        self._claim = self._body = b""

    def held_by(self, claim: str) -> bool:
        return hmac.compare_digest(self._digest(claim.encode()), self._claim)

    def came_with(self, body: bytes) -> bool:
        return hmac.compare_digest(self._digest(body), self._body)

    def _digest(self, data: bytes) -> bytes:
        # Keyed, so that a digest that gets out cannot be tried against guessed bodies.
        return hashlib.blake2b(data, digest_size=32, key=self._secret).digest()

    def __repr__(self) -> str:
        return f"<Claims {'held' if self._claim else 'none'}>"
