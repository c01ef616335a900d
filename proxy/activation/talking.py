"""HTTP with an upstream before it is anybody's: sessions, and what of an answer is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import aiohttp

if TYPE_CHECKING:
    from proxy.settings import ServerUrl

# Bytes of an answer that are read. One that is longer is not quoted: where it is cut it might have
# half of a value in it, which nobody would know to mask.
_ANSWER_LIMIT: Final = 64 * 1024


def open_session(url: ServerUrl, timeout: float | None) -> aiohttp.ClientSession:
    """For requests to `url`, each on a connection of its own, `timeout` in seconds."""
    path = url.socket_path
    connector: aiohttp.BaseConnector = (
        aiohttp.UnixConnector(path, force_close=True)
        if path is not None
        else aiohttp.TCPConnector(force_close=True)
    )
    return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=timeout))


async def read_answer(answer: aiohttp.ClientResponse) -> str:
    """Its text, or how much there is of it."""
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > _ANSWER_LIMIT:
            return f"(more than {_ANSWER_LIMIT} bytes)"
    return data.decode("utf-8", "replace")
