"""The server behind a proxy, claimed once."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import aiohttp

from proxy.client import InitClient
from proxy.demo.tour.child import ProxyChild, ProxyEndedError
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_POLL = 0.1  # seconds


class Claim(NamedTuple):
    """`waited` and `seconds`: until it could be claimed, and from the init to ready."""

    kind: str
    why: str | None
    waited: float
    seconds: float


async def claim(
    settings: Mapping[str, Any], body: Mapping[str, Any], directory: Path, limit: float
) -> Claim:
    """Start a proxy with `settings`, claim the server with `body`, and end both.

    Raises `ActivationError` and `ClientError`; `limit` is in seconds, for each of the two waits.
    """
    socket, config, key = directory / "proxy.sock", directory / "proxy.yaml", secrets.token_hex()
    own = {
        "deferred_init": True,
        "listen": {"address": f"unix:{socket}", "admin": None},
        "init": {"timeout": limit},
    }
    config.write_text(json.dumps({**settings, **own}))
    begun = time.monotonic()
    proxy = await ProxyChild.start(config, key, directory / "proxy.log")
    try:
        async with asyncio.timeout(limit), _session(str(socket)) as session:
            while not await _claimable(session):
                proxy.ensure_running()
                await asyncio.sleep(_POLL)
        waited = time.monotonic() - begun
        async with InitClient(f"http+unix://{socket}", key) as client:
            posted = time.monotonic()
            await client.init(body)
            seconds = time.monotonic() - posted
            start = ((await client.status(details=True)).details or {}).get("start") or {}
        kind, why = str(start.get("kind")), start.get("why")
        return Claim(kind, why, round(waited, 2), round(seconds, 3))
    except (TimeoutError, ProxyEndedError) as error:
        said = str(error) or f"it could not be claimed within {limit:g} s"
        raise ActivationError("\n".join([f"the proxy failed: {said}", *proxy.log()])) from None
    finally:
        await proxy.close()


def _session(socket: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.UnixConnector(socket))


async def _claimable(session: aiohttp.ClientSession) -> bool:
    try:
        async with session.get("http://localhost/ready") as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False
