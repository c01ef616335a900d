"""An orchestrator's client for `/api/init`, of this proxy or of a server with one of its own.

    async with InitClient("http://10.0.0.7:8000", key=secret) as client:
        await client.init({"session_api_keys": [key]})

Every failure is a `ClientError` whose text is fit to be shown; the server's own words are in it.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import urlsplit

import aiohttp

from proxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from types import TracebackType

InitState = Literal["dormant", "initializing", "ready"]

_STATES: Final = frozenset({"dormant", "initializing", "ready"})
_PATH: Final = "/api/init"
# Seconds: to connect, and for an answer that is at hand. An init takes as long as it takes.
_CONNECT: Final = 5.0
_AT_HAND: Final = 10.0
# More than a status with the end of a traceback in it; the bound is against a wrong server.
_MOST_BYTES: Final = 1_048_576
_SHOWN: Final = 500


class ClientError(ProxyError):
    """The call failed; nothing is known about the server beyond the text."""


class UnreachableError(ClientError):
    """No connection, or it ended before an answer: an init may have been accepted all the same."""


class AnswerError(ClientError):
    """The server answered with an error: `http_status`, and in `error` its own words."""

    def __init__(self, http_status: int, error: str) -> None:
        super().__init__(f"{error} (HTTP {http_status})")
        self.http_status = http_status
        self.error = error


class RefusedError(AnswerError):
    """The request was refused and nothing was changed (4xx): key, state, size, JSON, fields."""


class UnavailableError(AnswerError):
    """Not just now (503); `retry_after` is seconds, if the server says so."""

    def __init__(self, http_status: int, error: str, retry_after: float | None) -> None:
        super().__init__(http_status, error)
        self.retry_after = retry_after


class ActivationFailedError(AnswerError):
    """The activation failed and was undone (500, 504); `left` is what the server is back to."""

    def __init__(self, http_status: int, error: str, left: InitStatus) -> None:
        super().__init__(http_status, error)
        self.left = left


@dataclass(frozen=True)
class InitStatus:
    """What the server says of itself; `details` is empty unless they were asked for."""

    state: InitState
    error: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def as_json(self) -> dict[str, Any]:
        return {"state": self.state, "error": self.error, **self.details}


class InitClient:
    """One server. `url` is `http://host:port`, `https://host:port` or `http+unix:///path`.

    Raises `ClientError` for a URL or a key that cannot be used. `key` goes out as X-Init-API-Key.
    """

    def __init__(self, url: str, key: str | None = None) -> None:
        self.url = url
        self._base, self._socket_path = _split(url)
        if key is not None and (not key.isprintable() or key != key.strip()):
            raise ClientError(
                "cannot use the key: it has white space around it or control characters"
            )
        self._headers = {"X-Init-API-Key": key} if key is not None else {}
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.UnixConnector(self._socket_path) if self._socket_path else None
        self._session = aiohttp.ClientSession(
            connector=connector, cookie_jar=aiohttp.DummyCookieJar(), raise_for_status=False
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def status(self, *, details: bool = False) -> InitStatus:
        """What `GET /api/init` says. Raises `ClientError`."""
        query = "?details=true" if details else ""
        return await self._call("GET", query, limit=_AT_HAND)

    async def init(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  ends the waiting, not the activation
    ) -> InitStatus:
        """Activate the server; returns when it is ready.

        `timeout` (seconds; None: the server's own deadline is enough) ends the waiting, not the
        activation. Raises `RefusedError`, `ActivationFailedError` and the other `ClientError`s.
        """
        return await self._call("POST", "", limit=timeout, body=dict(body or {}))

    async def wait_for(
        self,
        state: InitState,
        *,
        timeout: float,  # noqa: ASYNC109  the error says what was seen last
        interval: float = 0.2,
    ) -> InitStatus:
        """Ask every `interval` seconds until the server is in `state`, up or not yet up.

        Raises `ClientError` after `timeout` seconds, with what was seen last.
        """
        deadline = time.monotonic() + timeout
        while True:
            seen: str
            try:
                status = await self.status()
                if status.state == state:
                    return status
                seen = f"it is {status.state}" + (f": {status.error}" if status.error else "")
            except (UnreachableError, UnavailableError) as error:
                seen = str(error)
            left = deadline - time.monotonic()
            if left <= 0:
                raise ClientError(f"{self.url} was not {state} within {timeout:g} s; {seen}")
            await asyncio.sleep(min(interval, left))

    async def changes(
        self, *, details: bool = False, interval: float = 0.2
    ) -> AsyncGenerator[InitStatus]:
        """The status at once, and again whenever it or its phase differs from the last one.

        Ends only by `ClientError`, or when it is left.
        """
        last: tuple[InitStatus, object] | None = None
        while True:
            status = await self.status(details=details)
            if (status, status.details.get("phase")) != last:
                last = (status, status.details.get("phase"))
                yield status
            await asyncio.sleep(interval)

    async def _call(
        self,
        method: str,
        query: str,
        *,
        limit: float | None,
        body: dict[str, Any] | None = None,
    ) -> InitStatus:
        if self._session is None:
            raise RuntimeError("InitClient is used with 'async with'")
        limits = aiohttp.ClientTimeout(total=limit, sock_connect=_CONNECT)
        try:
            async with self._session.request(
                method, self._base + _PATH + query, json=body, timeout=limits,
                headers=self._headers if method == "POST" else None, allow_redirects=False,
            ) as answer:  # fmt: skip
                content = await _read(answer)
        except aiohttp.ClientConnectorError as error:
            raise UnreachableError(f"cannot connect to {self.url}: {_cause(error)}") from error
        except TimeoutError as error:
            raise UnreachableError(f"{self.url} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            raise UnreachableError(f"lost {self.url} before it answered: {error}") from error
        return _judge(self.url, answer, content)

    def __repr__(self) -> str:
        return f"<InitClient {self.url}>"


def _split(url: str) -> tuple[str, str | None]:
    """Base for requests, and the path of a Unix socket. A password in a URL is not repeated."""
    if url.startswith("http+unix:///"):
        return "http://localhost", url.removeprefix("http+unix://")
    if "@" in url:
        raise ClientError("cannot use the URL: must not have a user or password")
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        forms = "http://host:port or http+unix:///path"
        raise ClientError(f"cannot use the URL {url!r}: must be {forms}")
    if parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ClientError(f"cannot use the URL {url!r}: must not have a path, query or fragment")
    return f"{parts.scheme}://{parts.netloc}", None


def _cause(error: aiohttp.ClientConnectorError) -> str:
    number = error.os_error.errno
    if number is not None and number > 0:
        # asyncio's own text repeats the address.
        return os.strerror(number)
    return error.os_error.strerror or str(error.os_error)


async def _read(answer: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > _MOST_BYTES:
            break
    return content


def _judge(url: str, answer: aiohttp.ClientResponse, content: bytes) -> InitStatus:
    """The status in an answer, or the error that it is."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    status = _status(body)
    if answer.status == 200 and status is not None:
        return status
    error = _words(body)
    if answer.status == 200 or error is None:
        raise AnswerError(answer.status, error or f"{url} did not answer as {_PATH} does")
    if answer.status in {500, 504} and status is not None:
        raise ActivationFailedError(answer.status, error, status)
    if answer.status == 503:
        raise UnavailableError(503, error, _seconds(answer.headers.get("Retry-After")))
    if 400 <= answer.status < 500:
        raise RefusedError(answer.status, error)
    raise AnswerError(answer.status, error)


def _status(body: Any) -> InitStatus | None:
    if not isinstance(body, dict) or body.get("state") not in _STATES:
        return None
    error = body.get("error")
    details = {key: value for key, value in body.items() if key not in {"state", "error"}}
    return InitStatus(body["state"], None if error is None else str(error), details)


def _words(body: Any) -> str | None:
    """What the server says went wrong: `error` of a status, else `detail`."""
    if not isinstance(body, dict):
        return None
    said = body.get("error") or body.get("detail")
    if said is None or isinstance(said, str):
        return said
    return json.dumps(said, ensure_ascii=False)[:_SHOWN]


def _seconds(text: str | None) -> float | None:
    return float(text) if text is not None and text.isascii() and text.isdigit() else None
