"""Activates an upstream that has a deferred init of its own: passes the init request on to it.

The upstream starts by itself, in a container beside the proxy, and is dormant. It keeps its own
rules; what is added (one writer, deadline, watching, crash policy) is the proxy's.
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from proxy.activation.starter import Exit, Found, Started
from proxy.errors import ActivationError

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings

logger = logging.getLogger(__name__)

_PATH: Final = "/api/init"
_APPEARS_POLL: Final = 0.1  # seconds between looks for an upstream that is not up yet
_WATCH_POLL: Final = 0.5  # seconds between looks at one that is
_LOOK_TIMEOUT: Final = 5.0
_ANSWER_SHOWN: Final = 500  # characters of an upstream's refusal
_SILENT: Final = "silent"  # in the place of a state: no answer
# How a connection fails where nobody listens: refused, no such socket, or each address of a host in
# a way of its own (which has no number).
_NOBODY: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT, None})
_WHY_COLD: Final = "its own deferred init was used"


class ForwardStarter:
    """The `Starter` for `upstream.activation: forward`."""

    def __init__(self, upstream: UpstreamSettings) -> None:
        loop = asyncio.get_running_loop()
        self._url = upstream.url
        key = upstream.forward.key
        self._headers = {"X-Init-API-Key": key.get_secret_value()} if key is not None else {}
        self._session: aiohttp.ClientSession | None = None
        self._opening: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.found: Found | None = None
        self.lost: asyncio.Future[str] = loop.create_future()
        self.warmed: asyncio.Future[str | None] = loop.create_future()

    def __repr__(self) -> str:
        return f"<ForwardStarter {self._url} watching={self._watching is not None}>"

    async def open(self) -> None:
        """Wait until the upstream answers; `found` is set when somebody activated it already."""
        while (state := await self._state()) in {None, _SILENT}:  # noqa: ASYNC110  it is another process
            await asyncio.sleep(_APPEARS_POLL)
        if state == "ready":
            self.found = Found(plan=None, started=self._watched())
        elif not self.warmed.done():
            self.warmed.set_result(_WHY_COLD)

    async def hasten(self) -> None:
        """Nothing is warmed here."""

    async def start(self, plan: Plan) -> Started:
        """Post the init request. Raises `ActivationError` with the upstream's own words."""
        try:
            async with self._open_session().post(
                self._url.base + _PATH,
                data=plan.request,
                headers=self._headers | {"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(),  # the activation has a deadline
            ) as answer:
                text = await answer.text(errors="replace")
                if answer.status != 200 or _state_of(text) != "ready":
                    raise ActivationError(
                        f"the upstream's own init answered {answer.status}: {text[:_ANSWER_SHOWN]}"
                    )
        except (aiohttp.ClientError, OSError) as error:
            raise ActivationError(f"cannot reach the upstream's own init: {error}") from None
        return self._watched()

    async def stop(self) -> None:
        """Stop watching. An init that was passed on cannot be taken back; the gate is closed."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait({self._watching})
            self._watching = None

    async def kill(self) -> None:
        await self.stop()

    async def close(self) -> None:
        await self.stop()
        if self._session is not None:
            await self._session.close()
            self._session = None

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            path = self._url.socket_path
            connector: aiohttp.BaseConnector = (
                aiohttp.UnixConnector(path, force_close=True)
                if path is not None
                else aiohttp.TCPConnector(force_close=True)
            )
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=aiohttp.ClientTimeout(total=_LOOK_TIMEOUT)
            )
        return self._session

    async def _state(self) -> str | None:
        """What the upstream says its state is; None when nobody listens there."""
        try:
            async with self._open_session().get(self._url.base + _PATH) as answer:
                return _state_of(await answer.text(errors="replace")) or "unknown"
        except (aiohttp.ClientError, OSError) as error:
            # Otherwise (no answer in time, one that was cut, a full queue) it has a bad moment. Who
            # lives and is taken for dead is lost: it cannot be activated a second time.
            return None if _nobody_listens(error) else _SILENT

    def _watched(self) -> Started:
        exited: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch(exited), name="watch upstream")
        return Started(pid=0, kind="warm", why=None, exited=exited)

    async def _watch(self, exited: asyncio.Future[Exit]) -> None:
        """Its end shows as a refused connection, or as a successor that is dormant."""
        state: str | None = "ready"  # as it has just said: the first look may wait
        while state not in {None, "dormant"}:
            await asyncio.sleep(_WATCH_POLL)
            state = await self._state()
        reason = "cannot be reached" if state is None else "has started anew and is dormant"
        if not exited.done():
            exited.set_result(Exit(code=1, reason=reason))


def _nobody_listens(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and error.errno in _NOBODY


def _state_of(text: str) -> str | None:
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return None
    state = answer.get("state") if isinstance(answer, dict) else None
    return state if isinstance(state, str) else None
