"""The bytes of a client, cut into heads and bodies, and the patience with it.

What cannot be worked on yet is held: requests behind the one that is answered, and the beginning
of a head. It is bounded, and read in pieces, so that no request in a long pipeline costs a
copy of all the others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, cast

from proxy.relay.ends.wire import BODY, HEAD, HELD_FULL, TUNNEL, WAIT
from proxy.relay.http.chunks import ChunkError
from proxy.relay.http.faults import HeadError, still_incomplete
from proxy.relay.http.limits import HELD, PIECE
from proxy.relay.telling.record import Exchange

if TYPE_CHECKING:
    from proxy.relay.http.body import RequestBody
    from proxy.relay.http.head import RequestHead
    from proxy.relay.relay import Relay

_BLANK_LINES: Final = re.compile(rb"(?:\r\n)*")  # before a request, RFC 9112 section 2.2


class Intake(Exchange):
    """Reads; what to do with a head that was read is `begin`'s business."""

    __slots__ = ("_timed",)

    def __init__(self, relay: Relay) -> None:
        super().__init__(relay)
        self._timed = True  # the time for the head to come runs, at first since the connect

    def begin(self, head: RequestHead, rest: bytes) -> bytes:
        """Work on a request; `rest` came behind its head, and what comes back is still unread."""
        raise NotImplementedError

    def refuse(self, status: int, why: str) -> None:
        raise NotImplementedError

    def end_exchange(self) -> None:
        raise NotImplementedError

    def hold(self, data: bytes) -> None:
        if self.state in {HEAD, WAIT}:
            self.held += data
            if len(self.held) > HELD:
                self.pause(HELD_FULL)

    def read(self, data: bytes) -> None:
        """Read bytes that nothing is held before."""
        if len(data) <= PIECE:
            rest = self._read(data)
            if rest:
                self.hold(rest)
        elif self.state == BODY:
            self.held += self.read_body(data)
            self.read_held()
        else:
            self.held += data
            self.read_held()

    def read_more_of_head(self, data: bytes) -> None:
        # A head that drips in is looked at as a whole when it is one: if every line made us look
        # at all before it, a large head would cost the square of its size.
        seen = len(self.held)
        self.held += data
        limits = self.relay.limits
        if len(self.held) > limits.head_size or (
            b"\n" in data and not still_incomplete(self.held, seen, limits)
        ):
            self.read_held()

    def read_held(self) -> None:
        """Read what is held until it has to wait again."""
        size = PIECE
        while self.held:
            piece = bytes(self.held if self.state == BODY else self.held[:size])
            more = len(self.held) > len(piece)
            rest = self._read(piece)
            del self.held[: len(piece) - len(rest)]
            if rest and (self.state != HEAD or self.stalled or not more):
                break
            # A head may be longer than a piece; then all of it is looked at.
            size = PIECE if len(rest) < len(piece) else len(self.held)
        if len(self.held) > HELD:
            self.pause(HELD_FULL)
        else:
            self.resume(HELD_FULL)

    def _read(self, data: bytes) -> bytes:
        """Work on `data`; what of it has to wait."""
        while data:
            if self.state == BODY:
                data = self.read_body(data)
            elif self.state == HEAD and not self.stalled:
                if data[0] == 13:
                    data = _BLANK_LINES.sub(b"", data, 1)
                head = self._read_head(data)
                if head is None:
                    return data
                data = self.begin(head, data[len(head.raw) :])
            else:
                return data
        return b""

    def _read_head(self, data: bytes) -> RequestHead | None:
        """The head that `data` begins with; None if it is incomplete, or was refused."""
        if data in {b"", b"\r"}:
            return None
        try:
            head = self.relay.heads.read(data)
        except HeadError as error:
            self.refuse(error.status, error.detail)
            return None
        if head is None and not self._timed:
            self._timed = True
            self.relay.wheel.arm(self, self.relay.head_ticks)
        return head

    def read_body(self, data: bytes, before: bytes = b"") -> bytes:
        """Pass on the request body behind `before`; what follows the body in `data`."""
        body = cast("RequestBody", self._body)
        try:
            out, rest = body.take(data)
        except ChunkError as error:
            self.refuse(400, str(error))
            return b""
        if self._active is not None and (before or out):
            self._active.write(before + out if before else out)
        if not body.done:
            self.relay.wheel.arm(self, self.relay.idle_ticks)
        else:
            self.relay.wheel.disarm(self)
            self.state = WAIT
            if self._responded:
                self.end_exchange()
        return rest

    # Slow clients.

    def pause_writing(self) -> None:
        self.begin_stall()
        if self._active is not None:
            self._active.pause()
        if self.state == WAIT:
            self.relay.wheel.arm(self, self.relay.idle_ticks)

    def resume_writing(self) -> None:
        self.stalled = False
        if self.state == WAIT:
            self.relay.wheel.disarm(self)
        if self._active is not None:
            self._active.resume()
        elif self.state == HEAD and self.held:
            self.read_held()

    def expired(self) -> None:
        """The wheel: what was waited for did not come in time."""
        if self.state == TUNNEL:
            return
        backlog = self.transport.get_write_buffer_size()
        if backlog:
            self.judge_slow_reader(backlog)
        elif self.state == HEAD and not self.held:
            self.close()
        elif self.state == HEAD:
            self.refuse(408, "the request head took too long")
        elif self.state == BODY and (self.paused or (self.status and not self._responded)):
            # The upstream does not take the body, or streams its answer meanwhile.
            self.relay.wheel.arm(self, self.relay.idle_ticks)
        elif self.state == BODY and not self.status:
            self.refuse(408, "the request body stopped")
        else:
            self.cause = "timeout"
            self.abort()
