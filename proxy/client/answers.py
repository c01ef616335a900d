"""What a server answers, and which error each answer is.

Every failure is a `ClientError` whose text is fit to be shown; the server's own words are in it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from proxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

InitState = Literal["dormant", "initializing", "ready"]

PATH: Final = "/api/init"
_STATES: Final = frozenset({"dormant", "initializing", "ready"})
# More than a status with the end of a traceback in it; the bound is against a wrong server.
MOST_BYTES: Final = 1_048_576
_SHOWN: Final = 500


class ClientError(ProxyError):
    """The call failed; nothing is known about the server beyond the text."""


class UnreachableError(ClientError):
    """No connection, or it ended before an answer: an init may have been accepted all the same."""


class LostError(UnreachableError):
    """The connection was made, and ended before an answer."""


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


async def read(answer: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for chunk in answer.content.iter_any():
        content += chunk
        if len(content) > MOST_BYTES:
            break
    return content


def judge(url: str, answer: aiohttp.ClientResponse, content: bytes) -> InitStatus:
    """The status in an answer. Raises the `AnswerError` that it is."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    status = read_status(body)
    if answer.status == 200 and status is not None:
        return status
    error = _words(body)
    if answer.status == 200 or error is None:
        raise AnswerError(answer.status, error or f"{url} did not answer as {PATH} does")
    if answer.status in {500, 504} and status is not None:
        raise ActivationFailedError(answer.status, error, status)
    if answer.status == 503:
        raise UnavailableError(503, error, _seconds(answer.headers.get("Retry-After")))
    if 400 <= answer.status < 500:
        raise RefusedError(answer.status, error)
    raise AnswerError(answer.status, error)


def read_status(body: Any) -> InitStatus | None:
    """A body as a status, None when it is none."""
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
