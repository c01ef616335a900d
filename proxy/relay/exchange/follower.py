"""Following an answer: where it ends, and whether its connection outlives it.

Its bytes go to the client as they came; nothing is taken apart or put together. A head is passed
on once it is complete and has one reading, so a broken one can still become a 502. After that the
bytes flow, and whatever breaks shows as it would without us.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from proxy.relay.http.chunks import ChunkError, ChunkReader
from proxy.relay.http.limits import KNOWN_SIZE
from proxy.relay.http.response import CHUNKED, UNTIL_CLOSE, ResponseError

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead
    from proxy.relay.http.response import ResponseReader

# What the next bytes are. Before a connection is made its stage is already that of its request.
IDLE, HEAD, LENGTH, CHUNKS, ENDLESS, TUNNEL, GONE = range(7)
STAGES: Final = ("idle", "head", "length", "chunked", "until close", "tunnel", "gone")

# What has happened: nothing new; the final answer has begun, or it is complete, or a tunnel is
# open. From BROKEN on the connection is of no use any more: there is no answer (`fault` says why)
# or only a part of one, a kept connection ended under a request, while idle, or as a tunnel, or
# brought bytes while idle.
MORE, BEGUN, ENDED, SWITCHED, BROKEN, CUT, VANISHED, LEFT, LOST, STRAY = range(10)


@dataclass(slots=True, eq=False)
class Follower:
    """Follows the answers on one connection, each announced by `begin`.

    `status` is that of the last final answer; `switches`: it may be a tunnel instead. When one has
    `ENDED`, `keep` says whether its connection may be used again, and `excess` that bytes follow
    which belong to no answer; `reset`: the connection was over by a reset.
    """

    _heads: ResponseReader
    stage: int = IDLE
    status: int = 0
    fault: str = ""
    switches: bool = False
    keep: bool = False
    excess: bool = False
    reset: bool = False
    _served: bool = False  # has answered before, so it may have been closing meanwhile
    _kept: bytes = b""  # a head that is not complete
    _asked: RequestHead | None = None
    _left: int = 0
    _chunks: ChunkReader | None = None

    def begin(self, head: RequestHead) -> None:
        """Expect the answer to `head`."""
        self.stage = HEAD
        self.switches = head.upgrade and not head.length
        self._asked = head

    def whole(self, data: bytes) -> bool:
        """Whether `data` is all of the answer, on a connection that may be used again.

        A short way past `feed` for most of them, as `Intake.whole` is for requests.
        """
        asked = self._asked
        if self.stage != HEAD or self._kept or asked is None or not asked.plain:
            return False
        framing = self._heads.known.get(data[: data.find(b"\r\n\r\n", 0, KNOWN_SIZE) + 4])
        if framing is None or framing.whole != len(data):
            return False
        self.status = framing.status
        self.stage = IDLE
        self._served = True
        self._asked = None
        return True

    def feed(self, data: bytes) -> tuple[int, bytes]:
        """What has happened, and what of `data` goes to the client."""
        stage = self.stage
        if stage == HEAD:
            if self._kept:
                data, self._kept = self._kept + data, b""
            return self._read_head(data)
        if stage == LENGTH:
            return self._count(data, self._left)
        if stage == CHUNKS:
            return self._step(data, 0)
        if stage == IDLE:
            # Nobody asked. What it is cannot be told, so nobody gets it as an answer.
            self.stage = GONE
            return STRAY, b""
        return MORE, b"" if stage == GONE else data

    def over(self, *, reset: bool) -> int:
        """The upstream sends no more: what that means depends on what it owed."""
        stage, self.stage, self.reset = self.stage, GONE, reset
        if stage == HEAD:
            self.fault = "the upstream closed the connection before it had answered"
            return VANISHED if self._served and not self._kept else BROKEN
        if stage == ENDLESS and not reset:
            self.keep = self.excess = False
            return ENDED
        return {IDLE: LEFT, TUNNEL: LOST, GONE: MORE}.get(stage, CUT)

    def _read_head(self, data: bytes) -> tuple[int, bytes]:
        asked = self._asked
        assert asked is not None  # noqa: S101  set on entering the stage
        bodiless = asked.method == b"HEAD"
        start = 0  # of the final head, behind interim ones
        rest = data
        while rest:
            try:
                framing = self._heads.read(rest, bodiless=bodiless, old=asked.old)
            except ResponseError as error:
                return self._broken(f"the upstream sent {error}"), data[:start]
            if framing is None:
                self._kept = rest
                break
            status, end = framing.status, framing.end
            if status >= 200:
                self.status = status
                self.keep = framing.keep
                self._asked = None
                return self._read_body(data, start + end, framing.length)
            if status == 101 and self.switches:
                self.stage = TUNNEL
                return SWITCHED, data
            if status == 101:
                return self._broken("the upstream switched protocols unasked"), data[:start]
            start += end
            rest = data[start:]
        return MORE, data[:start]

    def _read_body(self, data: bytes, start: int, length: int) -> tuple[int, bytes]:
        if length >= 0:
            self.stage = LENGTH
            event, out = self._count(data, start + length)
        elif length == UNTIL_CLOSE:
            self.stage = ENDLESS
            event, out = MORE, data
        else:
            assert length == CHUNKED  # noqa: S101  the only one left
            self._chunks = ChunkReader(answer=True)
            self.stage = CHUNKS
            event, out = self._step(data, start)
        return event or BEGUN, out

    def _count(self, data: bytes, owed: int) -> tuple[int, bytes]:
        self._left = left = owed - len(data)
        if left > 0:
            return MORE, data
        return self._ended(excess=left < 0), data[:left] if left else data

    def _step(self, data: bytes, start: int) -> tuple[int, bytes]:
        chunks = self._chunks
        assert chunks is not None  # noqa: S101  set on entering the stage
        try:
            end = start + chunks.feed(data[start:] if start else data)
        except ChunkError as error:
            # What was well until here shows the client that an answer had begun: it must not ask
            # again by itself, as it may where a kept connection ends without a byte.
            self.stage = GONE
            return CUT, data[: start + error.good]
        excess = end < len(data)
        event = self._ended(excess=excess) if chunks.done else MORE
        return event, data[:end] if excess else data

    def _ended(self, *, excess: bool) -> int:
        self._chunks = None
        self._served = True
        self.excess = excess
        self.keep = keep = self.keep and not excess
        self.stage = IDLE if keep else GONE
        return ENDED

    def _broken(self, fault: str) -> int:
        self.stage = GONE
        self.fault = fault
        return BROKEN

    def __repr__(self) -> str:
        return f"<Follower {STAGES[self.stage]}>"
