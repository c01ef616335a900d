"""A client's connection as a conversation: a request, its answer, and what follows from them.

It works on one request at a time. While the answer is outstanding, further bytes are held, so
pipelined requests are answered in order and a byte that follows an upgrade request is neither
request nor tunnel until the upstream has decided.

While a request is under way either side's close is the other's; between requests an upstream's
costs the client nothing, and the next request gets a connection of its own. A client that ends its
side while the upstream works on its request is taken for gone, as the end of a closed connection
looks the same, and its upstream connection is cut; unless it is to be answered all the same
(`half_closed`). In a tunnel one direction may outlive the other.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from proxy.lifecycle.gate import FOR_UPSTREAM, Verdict
from proxy.relay.exchange import follower as events
from proxy.relay.exchange.intake import BODY, HEAD, TUNNEL, WAIT, Fault, Intake
from proxy.relay.http.limits import DISCARDED, KNOWN_SIZE

if TYPE_CHECKING:
    from proxy.relay.exchange.follower import Follower
    from proxy.relay.http.forwarding import Forwarding
    from proxy.relay.http.head import RequestHead

# Who answers; the proxy itself with a refusal or an error.
UPSTREAM, CONTROL, PROXY = range(3)
SWITCHING: Final = 101
# Refusals that end the connection.
_LAST: Final = frozenset({Verdict.CLOSE, Verdict.CROWDED})

# What follows for the connection: nothing yet; the exchange is over; the connection is, once the
# client has got all that was written, whatever it still sends; it is closed, cut, or reset. Or a
# `Fault`: it is over with that answer.
PATIENCE, OVER, FINISH, CLOSE, ABORT, RESET = range(6)


@dataclass(slots=True, eq=False)
class Conversation:
    """`head` is the present request; `request_id` its own, or made here.

    `status` is that of the final answer, 0 until its head was passed on; `responded`: that answer
    is complete; `refused`: why the proxy answered itself; `last`: the connection ends with this
    exchange; `cause`: who cut it, if anybody but the client; `ended`: the client sends no more.
    """

    intake: Intake
    peer: Forwarding
    head: RequestHead | None = None
    request_id: bytes = b""
    source: int = PROXY
    status: int = 0
    responded: bool = False
    refused: str = ""
    last: bool = False
    cause: str = ""
    ended: bool = False
    _follower: Follower | None = None  # of the one that answers
    _stem: bytes = field(default_factory=lambda: b"%016x" % random.getrandbits(64))
    _made: int = 0

    # A request.

    def begin(self, head: RequestHead) -> None:
        self.head = head
        self._made = made = self._made + 1
        self.request_id = head.request_id or b"%b-%x" % (self._stem, made)
        self.last = not head.keep_alive or (self.ended and not self.intake.held)
        self.responded = False
        self.refused = ""

    def made_id(self) -> bytes:
        """An id that no other request has: random for the connection, then counted."""
        self._made += 1
        return b"%b-%x" % (self._stem, self._made)

    def ask(self, head: RequestHead, source: int, follower: Follower) -> bytes | Fault:
        """A backend is to answer; what it is sent: the head, and what has come of the body."""
        self.source = source
        self._follower = follower
        follower.begin(head)
        out = head.forward(self.peer, self.request_id, upstream=source == UPSTREAM)
        if not head.length:
            return out
        part = self.intake.read()
        if isinstance(part, Fault):
            return part
        self.passed_on()
        return out + part if isinstance(part, bytes) else out

    def passed_on(self) -> int:
        """A part of the body has gone on, or was dropped."""
        if self.intake.stage == BODY:
            return PATIENCE
        if self.ended and not self.intake.held:
            self.last = True
        if self._follower is not None and self.head is not None:
            self._follower.switches = self.head.upgrade
        return OVER if self.responded else PATIENCE

    def next(self) -> None:
        """The exchange is over, and another one may follow."""
        self.head = None
        self.status = 0
        self.intake.next()

    def half_closed(self, *, answers: bool, stalled: bool) -> bool:
        """The client ends its side; whether what it has asked for is answered all the same.

        `answers`: also by the upstream. What we answer ourselves is: a probe by a shell's `nc`.
        `stalled`: the client does not read, so requests may be held that are whole.
        """
        intake, head = self.intake, self.head
        if intake.stage == WAIT and head is not None:
            ours = self.source == CONTROL or self.responded
            self.ended = ours or (answers and not head.upgrade)
        else:
            self.ended = intake.stage == HEAD and stalled and bool(intake.held)
        self.last = self.last or not intake.held
        return self.ended

    @property
    def cut_short(self) -> bool:
        """Whether the client has ended its side before the end of a request."""
        return self.ended and self.intake.stage in {HEAD, BODY}

    # Requests that no backend answers.

    def alone(self) -> None:
        """It is the proxy that answers, or nobody yet."""
        self.source = PROXY
        self._follower = None

    def turn_away(self, verdict: Verdict, head: RequestHead) -> int:
        """The gate refuses `head`."""
        # A body is dropped to keep the connection, if its size is known and small, and it is
        # sure to come.
        dropped = 0 <= head.length <= DISCARDED and not (head.length and head.expects)
        self.last = verdict in _LAST or self.last or head.upgrade or not dropped
        if self.last:
            return FINISH
        return PATIENCE if self.intake.stage == BODY else OVER

    def unpark(self, verdict: Verdict, head: RequestHead) -> None:
        """The wait of `head` is over."""
        self.intake.unpark()
        if verdict not in FOR_UPSTREAM and len(self.intake.held) > head.length:
            self.last = True  # the requests behind it came for the same upstream

    def answered_by_us(self, status: int, reason: str) -> None:
        self.source = PROXY
        self.status = status
        self.refused = reason
        self.responded = True

    @property
    def bodiless(self) -> bool:
        """Whether the answer has no body."""
        return self.head is not None and self.head.method == b"HEAD"

    # Answers.

    def answered_whole(self, follower: Follower) -> None:
        """The whole answer to a plain request has come at once; the exchange is over."""
        self.status = follower.status
        self.responded = True

    def answered(self, follower: Follower) -> int:
        """The answer that `follower` followed has ended."""
        self.status = follower.status
        self.responded = True
        keep = follower.keep
        if not keep and self.source == UPSTREAM:
            self.last = True
        intake = self.intake
        if intake.stage == WAIT:
            if intake.held and self.head is not None and self.head.upgrade:
                self.last = True  # meant for a tunnel that did not come about
            return OVER
        return FINISH if self.last or not keep or self._body_in_doubt() else PATIENCE

    def heard(self, follower: Follower, source: int, event: int) -> int | Fault:
        """What follows from what `follower`, of the backend `source`, says has happened."""
        if event in {events.BEGUN, events.CUT}:
            self.status = follower.status
        if event == events.SWITCHED:
            self.status = SWITCHING
            self.responded = True
            self.intake.stage = TUNNEL  # from which what is held has still to be taken
        if event in {events.BEGUN, events.SWITCHED}:
            return PATIENCE
        if event in {events.LEFT, events.STRAY}:
            return PATIENCE if source == CONTROL else self._left(follower, event)
        if event == events.BROKEN:
            return self._cut(FINISH) if self.status else Fault(502, follower.fault)
        if follower.reset and event != events.VANISHED:
            return self._cut(RESET)
        return CLOSE if event == events.LOST else self._cut(FINISH)

    def _cut(self, follows: int) -> int:
        # The answer ends before its end, and the client must see that it does. Where none has
        # begun on a kept connection it may ask again, as it would then.
        self.cause = "upstream"
        return follows

    def _body_in_doubt(self) -> bool:
        # The client was told the end before it was told to continue: whether its body comes
        # at all is open, so what follows has two readings (RFC 9110 section 10.1.1).
        head, body = self.head, self.intake.body
        return head is not None and head.expects and body is not None and not body.begun

    def _left(self, follower: Follower, event: int) -> int:
        if follower is self._follower and self.intake.stage == BODY:
            return FINISH  # nobody is left to take the rest of a body that was answered early
        # Stray bytes may be of an answer that the client takes for longer than we do.
        return PATIENCE if event == events.LEFT else self.forsaken()

    def forsaken(self) -> int:
        """The upstream that has served this client is gone, or asked to go: a restart, or the end.

        Its client is to see that, though the close of an idle connection alone costs it nothing.
        """
        if self.intake.stage == HEAD:
            return FINISH
        self.last = True
        return PATIENCE

    def outlived(self, *, unread: bool) -> int:
        """The upstream is gone for which everything came so far; `unread`: more than is held.

        What is not answered yet must not wait for the next one; nor can it be left out, as the
        requests behind it would be answered in its place.
        """
        if self.intake.stage == HEAD:
            return FINISH if self.intake.held else PATIENCE
        if self.intake.held or unread or self.intake.stage == BODY:
            self.last = True
        return PATIENCE

    # What it costs.

    def kept(self, unsent: int) -> int:
        """Bytes that are kept for the client; `unsent`: of an answer that it does not read.

        The control plane keeps what it is sent, so that is twice there. What the upstream has been
        sent is the upstream's; of a small head no copy is kept.
        """
        head, size = self.head, len(self.intake.held)
        if self.source != UPSTREAM:
            size += unsent
        if head is None:
            return size
        if len(head.raw) > KNOWN_SIZE:
            size += len(head.raw)
        if self.source == CONTROL:
            size += len(head.raw)
            if self.intake.body is not None:
                size += self.intake.body.size
        return size

    @property
    def privileged(self) -> bool:
        """Whether it asks for what needs a key, and ends at once without it: an init."""
        return self.source == CONTROL and self.head is not None and self.head.method == b"POST"

    # Patience.

    @property
    def busy(self) -> bool:
        """Whether an ordinary request or its answer is under way."""
        return self.intake.stage not in {HEAD, TUNNEL}

    def too_slow(self, *, stuck: bool | None, paused: bool) -> int | Fault:
        """A time has run out; `stuck`: the client does not read (None: it has); `paused`: we."""
        stage = self.intake.stage
        if stuck is not None:
            return self.abandon() if stuck else PATIENCE
        if stage == HEAD and not self.intake.held:
            return CLOSE
        if stage == HEAD:
            return Fault(408, "the request head took too long")
        if stage == BODY and (paused or (self.status and not self.responded)):
            return PATIENCE  # the upstream does not take the body, or streams its answer meanwhile
        if stage == BODY and not self.status:
            return Fault(408, "the request body stopped")
        return self.abandon()

    def abandon(self) -> int:
        """Nothing has moved for too long."""
        self.cause = "timeout"
        return ABORT

    def __repr__(self) -> str:
        return f"<Conversation {self.head!r} {self.intake!r}>"
