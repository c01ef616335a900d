"""One server's `/api/init`, called."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

import aiohttp

from proxy.client.answers import (
    PATH,
    ClientError,
    InitStatus,
    LostError,
    RefusedError,
    UnavailableError,
    UnreachableError,
    judge,
    read,
)
from proxy.client.events import EventReader
from proxy.errors import cause_of

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping

    from proxy.client.answers import InitState

# Seconds: to connect, and for an answer that is at hand. An init takes as long as it takes.
_CONNECT: Final = 5.0
_AT_HAND: Final = 10.0
# Seconds of one long poll: under the idle limits of common load balancers.
_POLL: Final = 25.0
# Seconds of silence after which a stream is taken for dead: three of its signs of life.
_SILENCE: Final = 45.0
# Seconds in which a claim whose answer was lost is asked for again, and between two attempts.
_RETRY_FOR: Final = 30.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


class InitClient:
    """One server. `url` is `http://host:port`, `https://host:port` or `http+unix:///path`.

    What `control.prefix` puts before the server's paths follows the port.

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

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def status(self, *, details: bool = False) -> InitStatus:
        """What `GET /api/init` says. Raises `ClientError`."""
        return await self._call("GET", "?details=true" if details else "", limit=_AT_HAND)

    async def init(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  ends the waiting, not the activation
    ) -> InitStatus:
        """Activate the server by one request; returns when it is ready.

        `timeout` (seconds; None: the server's own deadline is enough) ends the waiting, not the
        activation. Raises `RefusedError`, `ActivationFailedError` and the other `ClientError`s.
        """
        return await self._call("POST", "", limit=timeout, content=_content(body))

    async def claim(
        self,
        body: Mapping[str, Any] | None = None,
        *,
        claim_id: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109  ends the waiting, not the activation
        on_lost: Callable[[LostError], None] | None = None,
    ) -> InitStatus:
        """Activate the server as `init` does, and ask again when the answer is lost.

        The request has a claim id (generated, if none is given), so that asking again is safe: it
        joins the activation that the first one began. `on_lost` hears of every lost answer. A
        server that does not know claim ids refuses the second request, and the error says that
        the first may have been accepted. Raises as `init` does.
        """
        content = _content(body)  # the same bytes each time: they are part of the claim
        claim = {"Idempotency-Key": claim_id or str(uuid.uuid4())}
        end = None if timeout is None else time.monotonic() + timeout
        lost: LostError | None = None
        give_up, pause = float("inf"), _FIRST_PAUSE
        while True:
            limit = None if end is None else max(0.001, end - time.monotonic())
            try:
                return await self._call("POST", "", limit=limit, content=content, headers=claim)
            except LostError as error:
                if lost is None:
                    give_up = time.monotonic() + _RETRY_FOR
                lost = error
                if on_lost is not None:
                    on_lost(error)
            except RefusedError as error:
                raise _explained(error, lost) from error
            except (UnreachableError, UnavailableError):
                # Nothing was accepted yet, unless by a request whose answer was lost.
                if lost is None:
                    raise
            if time.monotonic() + pause > min(give_up, end or give_up):
                raise lost
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def wait_for(
        self,
        state: InitState,
        *,
        timeout: float,  # noqa: ASYNC109  the error says what was seen last
        interval: float = 0.2,
    ) -> InitStatus:
        """Wait until the server is in `state`, up or not yet up, by long polls.

        A server that cannot wait is asked every `interval` seconds. Raises `ClientError` after
        `timeout` seconds, with what was seen last.
        """
        deadline = time.monotonic() + timeout
        while True:
            begun = time.monotonic()
            wait = min(_POLL, max(0.0, deadline - begun))
            query = f"?wait={wait:.3f}&state={state}"
            seen: str
            try:
                status = await self._call("GET", query, limit=wait + _AT_HAND)
                if status.state == state:
                    return status
                seen = f"it is {status.state}" + (f": {status.error}" if status.error else "")
            except (UnreachableError, UnavailableError) as error:
                seen = str(error)
            now = time.monotonic()
            if now >= deadline:
                raise ClientError(f"{self.url} was not {state} within {timeout:g} s; {seen}")
            await asyncio.sleep(max(0.0, min(interval - (now - begun), deadline - now)))

    async def changes(
        self, *, details: bool = False, interval: float = 0.2
    ) -> AsyncGenerator[InitStatus]:
        """The status at once, and again whenever it or its phase differs from the last one.

        By the server's event stream, or by a look every `interval` seconds if it has none. Ends
        only by `ClientError`, or when it is left.
        """
        last: tuple[InitStatus, object] | None = None
        reader = EventReader()
        while True:
            async with aclosing(self._look(reader, details=details)) as statuses:
                async for status in statuses:
                    if (status, status.details.get("phase")) != last:
                        last = (status, status.details.get("phase"))
                        yield status
            await asyncio.sleep(interval)

    async def _look(self, reader: EventReader, *, details: bool) -> AsyncGenerator[InitStatus]:
        """The statuses of one answer: of a stream until it ends or is lost, or the one there is."""
        limits = aiohttp.ClientTimeout(sock_connect=_CONNECT, sock_read=_SILENCE)
        query = "?details=true" if details else ""
        begun = False
        try:
            async with self._request("GET", query, limits, headers=reader.headers) as answer:
                if answer.status != 200 or answer.content_type != "text/event-stream":
                    yield judge(self.url, answer, await read(answer))
                    return
                begun = True
                async with aclosing(reader.read(answer)) as statuses:
                    async for status in statuses:
                        yield status
        except UnreachableError:
            if not begun:  # a stream that broke is taken up again
                raise

    async def _call(
        self,
        method: str,
        query: str,
        *,
        limit: float | None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> InitStatus:
        limits = aiohttp.ClientTimeout(total=limit, sock_connect=_CONNECT)
        async with self._request(method, query, limits, content, headers) as answer:
            found = await read(answer)
        return judge(self.url, answer, found)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        query: str,
        limits: aiohttp.ClientTimeout,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request; aiohttp's errors become ours, also while the answer is read."""
        if self._session is None:
            raise RuntimeError("InitClient is used with 'async with'")
        own = self._headers | {"Content-Type": "application/json"} if method == "POST" else {}
        try:
            async with self._session.request(
                method, self._base + PATH + query, data=content, timeout=limits,
                headers=own | dict(headers or {}), allow_redirects=False,
            ) as answer:  # fmt: skip
                yield answer
        except aiohttp.ClientSSLError as error:
            why = "it speaks no TLS, or its certificate is not trusted here"
            raise UnreachableError(f"cannot connect to {self.url}: {why}") from error
        except aiohttp.ClientConnectorError as error:
            cause = cause_of(error.os_error)
            raise UnreachableError(f"cannot connect to {self.url}: {cause}") from error
        except TimeoutError as error:
            raise UnreachableError(f"{self.url} did not answer in time") from error
        except (aiohttp.ClientError, OSError) as error:
            cause = cause_of(error) if isinstance(error, OSError) else "no HTTP answer"
            raise LostError(f"lost {self.url} before it answered: {cause}") from error

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
    if parts.path.rstrip("/").endswith(PATH):
        raise ClientError(f"cannot use the URL {url!r}: it ends before {PATH}")
    if parts.query or parts.fragment:
        raise ClientError(f"cannot use the URL {url!r}: must not have a query or fragment")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", None


def _content(body: Mapping[str, Any] | None) -> bytes:
    return json.dumps(dict(body or {})).encode()


def _explained(error: RefusedError, lost: LostError | None) -> RefusedError:
    """A refusal, with what it may mean after a lost answer of a server without claims."""
    if lost is None or error.http_status != 400:
        return error
    said = f"{error.error}; the request whose answer was lost may have been accepted"
    return RefusedError(error.http_status, said)
