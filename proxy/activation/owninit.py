"""The deferred init that an upstream has of its own: asked for its state, and given the init."""

from __future__ import annotations

import errno
import json
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from proxy.activation.talking import open_session, read_answer
from proxy.errors import ActivationError, cause_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.settings import ServerUrl

_LOOK_TIMEOUT: Final = 5.0  # seconds
SILENT: Final = "silent"  # in the place of a state: no answer
# How a connection fails where nobody listens: refused, no such socket, or each address of a host in
# a way of its own (which has no number).
_NOBODY: Final = frozenset({errno.ECONNREFUSED, errno.ENOENT, None})


class RefusedInitError(ActivationError):
    """The upstream's own init does not take the request (4xx), and has changed nothing.

    `place` names the fields that it complains of, never a value.
    """

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(message)
        self.place = place


class OwnInit:
    """That of the upstream at `url`, which wants `key`; None: it wants none."""

    def __init__(self, url: ServerUrl, key: str | None, path: str = "/api/init") -> None:
        self._url = url
        self._path = path
        self._headers = {"X-Init-API-Key": key} if key is not None else {}
        self._session: aiohttp.ClientSession | None = None

    def __repr__(self) -> str:
        return f"<OwnInit {self._url}>"

    async def state(self) -> str | None:
        """What the upstream says its state is, or `SILENT`; None when nobody listens there."""
        try:
            async with self._open_session().get(self._url.base + self._path) as answer:
                return _state_of(await read_answer(answer)) or "unknown"
        except (aiohttp.ClientError, OSError) as error:
            # Otherwise (no answer in time, one that was cut, a full queue) it has a bad moment. Who
            # lives and is taken for dead is lost: it cannot be activated a second time.
            return None if _nobody_listens(error) else SILENT

    async def post(self, request: bytes) -> None:
        """Pass an init on; returns when the upstream says that it is ready. Has no deadline.

        Raises `ActivationError` with the upstream's own words, whole: whoever shows them masks
        them before they are cut. `RefusedInitError` when it is the request that is wrong.
        """
        try:
            async with self._open_session().post(
                self._url.base + self._path,
                data=request,
                headers=self._headers | {"Content-Type": "application/json"},
                timeout=aiohttp.ClientTimeout(),
            ) as answer:
                text = await read_answer(answer)
                if answer.status != 200 or _state_of(text) != "ready":
                    said = f"the upstream's own init answered {answer.status}: {text}"
                    if 400 <= answer.status < 500:
                        raise RefusedInitError(said, f"{answer.status}{_complained_of(text)}")
                    raise ActivationError(said)
        except (aiohttp.ClientError, OSError) as error:
            cause = cause_of(error) if isinstance(error, OSError) else "no HTTP answer"
            raise ActivationError(f"cannot reach the upstream's own init: {cause}") from None

    async def ask(
        self, method: str, path: str, headers: dict[str, str]
    ) -> tuple[int, Mapping[str, str], str]:
        """Status, headers and text of the upstream's answer. Raises `ActivationError`."""
        try:
            async with self._open_session().request(
                method, self._url.base + path, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status, answer.headers, await read_answer(answer)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            what = type(error).__name__  # its text may quote the headers
            raise ActivationError(f"cannot ask the upstream for {path}: {what}") from None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = open_session(self._url, _LOOK_TIMEOUT)
        return self._session


def _nobody_listens(error: Exception) -> bool:
    return isinstance(error, aiohttp.ClientConnectorError) and error.errno in _NOBODY


def _complained_of(text: str) -> str:
    """The fields that a refusal in FastAPI's form names, to be put after its status."""
    try:
        faults = json.loads(text)["detail"]
        names = [".".join(str(part) for part in fault["loc"][1:]) for fault in faults]
    except (ValueError, KeyError, TypeError, IndexError):
        return ""
    return f": {', '.join(names)}" if names else ""


def _state_of(text: str) -> str | None:
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return None
    state = answer.get("state") if isinstance(answer, dict) else None
    return state if isinstance(state, str) else None
