"""Answers that the relay gives itself."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.lifecycle.gate import Verdict

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead

_JSON: Final = "application/json"


class Refusal(NamedTuple):
    """What a refused request is told; the status of a gate's refusal is 503, or 401.

    `headers` come besides those of every refusal; they are ours, so their values are not checked.
    With a `status` it is none, but what a preflight is told.
    """

    body: bytes
    content_type: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()
    status: int | None = None


# Why requests are refused, as the metrics call it: by the gate, or by the status of an error.
GATE_REASONS: Final[dict[Verdict, str]] = {
    Verdict.REFUSE: "not_ready",
    Verdict.CLOSE: "draining",
    Verdict.CROWDED: "too_many",
    Verdict.UNAUTHORIZED: "unauthorized",
}
ERROR_REASONS: Final[dict[int, str]] = {
    HTTPStatus.REQUEST_TIMEOUT: "too_slow",
    HTTPStatus.BAD_GATEWAY: "upstream",
    HTTPStatus.GATEWAY_TIMEOUT: "upstream",
    HTTPStatus.SERVICE_UNAVAILABLE: "too_much",  # is kept for all clients
}
BAD_REQUEST: Final = "bad_request"  # every other status
REASONS: Final = (*GATE_REASONS.values(), *ERROR_REASONS.values(), BAD_REQUEST)


def error_reason(status: int) -> str:
    return ERROR_REASONS.get(status, BAD_REQUEST)


def detail(text: str) -> bytes:
    return json.dumps({"detail": text}).encode()


_NOT_READY: Final = Refusal(detail("the agent server is not ready"))
_UNAUTHORIZED: Final = Refusal(
    detail("a session key is needed, and this is none"),
    # RFC 9110 section 11.6.1 wants one; a browser asks nobody for a scheme that it does not know.
    headers=(("WWW-Authenticate", 'ApiKey header="X-Session-API-Key"'),),
)
_CLOSING: Final = Refusal(detail("the proxy is shutting down"))
_CROWDED: Final = Refusal(detail("too many connections"))
_PLAIN: Final = {
    Verdict.UNAUTHORIZED: _UNAUTHORIZED,
    Verdict.CLOSE: _CLOSING,
    Verdict.CROWDED: _CROWDED,
}


def plain_refusal(verdict: Verdict, _head: RequestHead) -> Refusal:
    """What refused requests are told unless the composition root has a better answer."""
    return _PLAIN.get(verdict, _NOT_READY)


def render(
    status: int, refusal: Refusal, request_id: bytes, *, close: bool, bodiless: bool = False
) -> bytes:
    """A whole HTTP/1.1 response; a 503 says when to come back."""
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Content-Type: {refusal.content_type}",
        f"Content-Length: {len(refusal.body)}",
        f"X-Request-ID: {request_id.decode()}",
        *(f"{name}: {value}" for name, value in refusal.headers),
    ]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        lines += ["Retry-After: 1", "Cache-Control: no-store"]
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        lines.append("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
    if close:
        lines.append("Connection: close")
    head = "\r\n".join(lines).encode() + b"\r\n\r\n"
    return head if bodiless else head + refusal.body
