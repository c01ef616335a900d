"""The bytes of a client, cut into heads and bodies.

What cannot be worked on yet is held: requests behind the one that is answered, and the beginning
of a head. Whoever reads stops when more than `HELD` bytes are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.relay.http.body import RequestBody
from proxy.relay.http.chunks import ChunkError
from proxy.relay.http.faults import HeadError, still_incomplete
from proxy.relay.http.limits import KNOWN_SIZE

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead
    from proxy.relay.http.reader import HeadReader

# What the client's next bytes are: a head, a body, early (held), a tunnel's, or thrown away.
HEAD, BODY, WAIT, TUNNEL, LINGER, CLOSED = range(6)
STAGES: Final = ("head", "body", "wait", "tunnel", "linger", "closed")

_BLANK_LINES: Final = re.compile(rb"(?:\r\n)*")  # before a request, RFC 9112 section 2.2


class Fault(NamedTuple):
    """Why there is no answer but this: an HTTP status and what is wrong."""

    status: int
    detail: str


@dataclass(slots=True, eq=False)
class Intake:
    """`stage` is what comes next; `body` that of the present request, if it has one."""

    _heads: HeadReader
    stage: int = HEAD
    held: bytearray = field(default_factory=bytearray)
    body: RequestBody | None = None

    def read(self, data: bytes = b"") -> RequestHead | bytes | Fault | None:
        """What can be worked on next: a head, a part of the body behind it as it goes on, a fault.

        `data` comes behind all that was read before. None: more of it has to come, or the present
        request has to be over first. With nothing held, another call would find nothing.
        """
        if self.stage == HEAD:
            if self.held:
                return self._read_more_of_head(data)
            return self._read_head(data)
        if self.stage == BODY and self.body is not None:
            return self._read_body(data, self.body)
        self.held += data
        return None

    def whole(self, data: bytes) -> RequestHead | None:
        """The plain request that `data` is as a whole, if a head comes next.

        A short way past `read` for most of them: it saves a fifth of what is ours of a request.
        """
        if self.stage != HEAD or self.held or len(data) > KNOWN_SIZE:
            return None
        head = self._heads.known.get(data)
        if head is None or not head.plain:
            return None
        self.stage = WAIT
        return head

    def next(self) -> None:
        """The present request is over."""
        self.stage = HEAD
        self.body = None

    def park(self) -> None:
        """The body has to wait as well."""
        self.stage = WAIT

    def unpark(self) -> None:
        self.stage = WAIT if self.body is None else BODY

    def leave(self, stage: int) -> bytes:
        """No request comes any more; what was held."""
        self.stage = stage
        held, self.held = bytes(self.held), bytearray()
        return held

    @property
    def fine(self) -> bool:
        """Whether what is read next may be cut into very many pieces: heads, or chunks."""
        chunks = self.body is not None and self.body.chunked
        return self.stage == HEAD or (self.stage == BODY and chunks)

    def _read_more_of_head(self, data: bytes) -> RequestHead | Fault | None:
        # A head that drips in is looked at as a whole when it is one: if every line made us look
        # at all before it, a large head would cost the square of its size.
        held, limits = self.held, self._heads.limits
        seen = len(held)
        held += data
        if not data or len(held) > limits.head_size:
            return self._read_head(held)
        incomplete = b"\n" not in data or still_incomplete(held, seen, limits)
        return None if incomplete else self._read_head(held)

    def _read_head(self, data: bytes | bytearray) -> RequestHead | Fault | None:
        """`data` is all that is held, or there is nothing held yet."""
        if data[:1] == b"\r" and (blank := _BLANK_LINES.match(data)) is not None:
            data = self.held = bytearray(data[blank.end() :])
        try:
            head = self._heads.read(data) if data and data != b"\r" else None
        except HeadError as error:
            return Fault(error.status, error.detail)
        size = 0 if head is None else len(head.raw)
        if data is self.held:
            del self.held[:size]
        elif size < len(data):
            self.held += data[size:]
        return None if head is None else self._begin(head)

    def _begin(self, head: RequestHead) -> RequestHead:
        if head.length:
            self.body = RequestBody(head.length)
            self.stage = BODY
        else:
            self.stage = WAIT
        return head

    def _read_body(self, data: bytes, body: RequestBody) -> bytes | Fault | None:
        if self.held:
            data = self.leave(BODY) + data
        elif not data:
            return None
        try:
            out, rest = body.take(data)
        except ChunkError as error:
            return Fault(400, str(error))
        if rest:
            self.held += rest
        if body.done:
            self.stage = WAIT
        return out

    def __repr__(self) -> str:
        return f"<Intake {STAGES[self.stage]}, {len(self.held)} held>"
