"""What an init must bring about is seen before ready is said.

A server may take a field and not heed it: OpenHands 1.29.0 took session keys and let everybody in,
and none of its releases up to 1.58 heeds the allowed origins of its own init. Asked is the running
server, as a client would ask it.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.activation.owninit import OwnInit
    from proxy.settings import NativeSettings

_KEY_HEADER = "X-Session-API-Key"
_REFUSALS = frozenset({401, 403})
# Allowed by some servers whatever they were told.
_ALWAYS_ALLOWED = frozenset({"localhost", "127.0.0.1"})


async def missing(
    own: OwnInit, native: NativeSettings, fields: Mapping[str, Any]
) -> dict[str, str]:
    """Which of the delivered `fields` are not in force, and what shows it.

    Raises `ActivationError` when the server does not answer.
    """
    if native.guarded is None:
        return {}
    found: dict[str, str] = {}
    if "session_api_keys" in fields:
        why = await _keys(own, native, native.guarded, fields["session_api_keys"][0])
        if why is not None:
            found["session_api_keys"] = why
    if "allow_cors_origins" in fields:
        why = await _origins(own, native.guarded, fields["allow_cors_origins"])
        if why is not None:
            found["allow_cors_origins"] = why
    return found


async def _keys(own: OwnInit, native: NativeSettings, guarded: str, key: str) -> str | None:
    status, _, _ = await own.ask("GET", guarded, {_KEY_HEADER: secrets.token_urlsafe()})
    if status not in _REFUSALS:
        return f"{guarded} answered {status} to a wrong session key"
    status, _, _ = await own.ask("GET", guarded, {_KEY_HEADER: key})
    if status in _REFUSALS:
        return f"{guarded} answered {status} to a session key that was delivered"
    for path, before in native.token.items():
        status, _, text = await own.ask("GET", path, {_KEY_HEADER: key})
        told = _with(text, before)
        if told and not {before + key, before + quote(key, safe="")} & told:
            return f"{path} tells another token than the session key that was delivered"
    return None


def _with(text: str, before: str) -> set[str]:
    """Every part of `text` that begins with `before`, up to where a URL's parameter ends."""
    parts = text.split(before)[1:]
    return {before + part.partition('"')[0].partition("&")[0] for part in parts}


async def _origins(own: OwnInit, guarded: str, origins: list[str]) -> str | None:
    origin = next((o for o in origins if urlsplit(o).hostname not in _ALWAYS_ALLOWED), None)
    if origin is None:
        return "whether it is in force cannot be seen"
    origin = "https://any.invalid" if origin == "*" else origin
    asked = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    _, headers, _ = await own.ask("OPTIONS", guarded, asked)
    if headers.get("Access-Control-Allow-Origin") in {origin, "*"}:
        return None
    return "an origin that was delivered is not allowed"
