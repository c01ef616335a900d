"""What the relay does to `X-Request-ID`, taken off again to compare the rest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.relay.raw.strict import Request

_MADE = rb"[0-9a-f]{16}-[0-9a-f]+"
_ACCEPTED = re.compile(rb"[\w.~:/+=@-]{1,128}", re.ASCII)


def without_made_id(head: bytes) -> bytes:
    """The bytes of `head`, which must end with an id that was made, without it."""
    rest, count = re.subn(rb"\r\nX-Request-ID: " + _MADE + rb"\r\n\r\n\Z", b"\r\n\r\n", head)
    assert count == 1, head
    return rest


def _ids(request: Request) -> list[tuple[bytes, bytes]]:
    return [
        (name, value)
        for name, value in request.fields
        if name.lower().replace(b"_", b"-") == b"x-request-id"
    ]


def strip_ids(relayed: Request, sent: Request) -> None:
    """Take the ids off both, if `relayed` has the one it should: its own, or a made one, last."""
    said, got = _ids(sent), _ids(relayed)
    assert len(got) == 1
    if len(said) == 1 and _ACCEPTED.fullmatch(said[0][1].strip(b" \t")) and b"_" not in said[0][0]:
        hop = b",".join(sent.get(b"connection")).lower()
        assert b"x-request-id" in hop or got == said
    if got != said:
        assert relayed.fields[-1] == got[0]
        assert re.fullmatch(rb"X-Request-ID: " + _MADE, b":".join(got[0]))
    for request in (relayed, sent):
        request.fields = [field for field in request.fields if field not in said + got]
