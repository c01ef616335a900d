"""An orchestrator's client for `/api/init`, of this proxy or of a server with one of its own.

    async with InitClient("http://10.0.0.7:8000", key=secret) as client:
        await client.claim({"session_api_keys": [key]})

Every failure is a `ClientError` whose text is fit to be shown; the server's own words are in it.
"""

from __future__ import annotations

from proxy.client.answers import (
    ActivationFailedError,
    AnswerError,
    ClientError,
    InitState,
    InitStatus,
    LostError,
    RefusedError,
    UnavailableError,
    UnreachableError,
)
from proxy.client.session import InitClient

__all__ = [
    "ActivationFailedError",
    "AnswerError",
    "ClientError",
    "InitClient",
    "InitState",
    "InitStatus",
    "LostError",
    "RefusedError",
    "UnavailableError",
    "UnreachableError",
]
