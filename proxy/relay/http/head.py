"""The head of a request: what it means, and what of it goes on.

Everything goes on as it came (order, spelling, value bytes, target), except for the fields that
belong to one hop: those are found by `fields`, and `reader` puts both together.
"""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from proxy.relay.http.limits import KNOWN_SIZE

if TYPE_CHECKING:
    from proxy.relay.http.forwarding import Forwarding, Told

_OWS: Final = b"\t "
_END: Final = b"\r\n\r\n"
Edit = tuple[int, int, bytes]  # from, to, and what stands there instead


@dataclasses.dataclass(slots=True, eq=False)
class RequestHead:
    """One accepted request head.

    `edits` are made for every next hop, `secrets` besides for the upstream, and `claims` for it
    when the peer is not trusted; `target` is in origin form.
    `length` is the size of the body in bytes, or `CHUNKED`; `raw` the head as it came, with its
    empty line; `old` means HTTP/1.0; `request_id` is None where one has to be made. `plain`: it is
    a whole request by itself, and its answer has the framing that it says.
    """

    raw: bytes
    method: bytes
    target: bytes
    old: bool
    keep_alive: bool
    length: int = 0
    upgrade: bool = False
    expects: bool = False
    host: bytes | None = None
    request_id: bytes | None = None
    plain: bool = False
    forwarded: Told = dataclasses.field(default_factory=dict)
    edits: list[Edit] = dataclasses.field(default_factory=list)
    secrets: list[Edit] = dataclasses.field(default_factory=list)
    claims: list[Edit] = dataclasses.field(default_factory=list)
    _out: bytes = b""
    _out_for: Forwarding | None = None

    def field(self, name: bytes) -> bytes | None:
        """The value of the first field called `name` (lower case)."""
        found = re.search(rb"\r\n" + re.escape(name) + rb":([^\r]*)", self.raw, re.IGNORECASE)
        return found[1].strip(_OWS) if found else None

    def forward(self, forwarding: Forwarding, request_id: bytes, *, upstream: bool) -> bytes:
        """The head as the next hop gets it: the upstream, or our own control plane.

        `request_id` is its own, or the one that was made for it.
        """
        if upstream and self._out_for is forwarding:
            out = self._out
        elif not upstream:
            out = self._forward(forwarding, self.edits)
        else:
            edits = self.edits + self.secrets
            if not forwarding.trusted:
                edits += self.claims
            # What is named in `Connection` is struck already, and once is enough.
            edits = sorted({edit[0]: edit for edit in edits}.values())
            out = self._forward(forwarding, edits)
            if len(self.raw) <= KNOWN_SIZE:  # else nobody asks again
                self._out, self._out_for = out, forwarding
        return out if self.request_id is not None else out + request_id + _END

    def _forward(self, forwarding: Forwarding, edits: list[Edit]) -> bytes:
        raw = self.raw
        parts: list[bytes] = []
        done = 0
        for start, end, replacement in edits:
            parts += raw[done:start], replacement
            done = end
        last = b"\r\nX-Request-ID: " if self.request_id is None else _END
        parts += raw[done:-4], forwarding.lines(self.forwarded, self.host), last
        return b"".join(parts)

    def __repr__(self) -> str:
        return f"<RequestHead {self.method!r} {self.target!r}>"
