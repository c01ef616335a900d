"""A conversation with one upstream, played without any I/O: what the ends do, as they are told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.relay.exchange.conversation import FINISH, OVER, PATIENCE, UPSTREAM, Conversation
from proxy.relay.exchange.follower import ENDED, MORE, Follower
from proxy.relay.exchange.intake import CLOSED, TUNNEL, Fault, Intake
from proxy.relay.http.forwarding import Forwarding
from proxy.relay.http.head import RequestHead
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import ResponseReader
from proxy.settings import LimitSettings

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMITS = LimitSettings()
HEADS = HeadReader(LIMITS)
RESPONSES = ResponseReader(LIMITS.head_size)
PEER = Forwarding(b"127.0.0.1", trusted=False)


class Played:
    """What goes to each side, and how it ended: `ending` is the last that followed."""

    def __init__(self) -> None:
        self.intake = Intake(HEADS)
        self.talk = Conversation(self.intake, PEER)
        self.follower = Follower(RESPONSES)
        self.requests: list[RequestHead] = []
        self.to_upstream = b""
        self.to_client = b""
        self.ending: int | Fault = PATIENCE

    @property
    def over(self) -> bool:
        return self.ending not in {PATIENCE, OVER}

    def client(self, segments: Iterable[bytes]) -> None:
        for segment in segments:
            if self.intake.stage == TUNNEL:
                self.to_upstream += segment
            elif not self.over:
                self._read(segment)

    def upstream(self, segments: Iterable[bytes]) -> None:
        for segment in segments:
            if self.over:
                return
            event, out = self.follower.feed(segment)
            self.to_client += out
            if event == ENDED:
                self._follow(self.talk.answered(self.follower))
            elif event != MORE:
                self._follow(self.talk.heard(self.follower, UPSTREAM, event))
                if self.intake.stage == TUNNEL:
                    self.to_upstream += self.intake.leave(TUNNEL)

    def upstream_over(self, *, reset: bool) -> None:
        event = self.follower.over(reset=reset)
        if event == ENDED:
            self._follow(self.talk.answered(self.follower))
        elif event != MORE:
            self._follow(self.talk.heard(self.follower, UPSTREAM, event))

    def _read(self, data: bytes = b"") -> None:
        event = self.intake.read(data)
        while event is not None:
            if isinstance(event, RequestHead):
                self.requests.append(event)
                self.talk.begin(event)
                event = self.talk.ask(event, UPSTREAM, self.follower)
            elif isinstance(event, bytes):
                self._follow(self.talk.passed_on())
            if isinstance(event, Fault):
                self._follow(event)
                return
            self.to_upstream += event
            event = self.intake.read() if self.intake.held else None

    def _follow(self, follows: int | Fault) -> None:
        if follows == OVER and not self.talk.last:
            self.talk.next()
            if self.intake.held:
                self._read()
            return
        if follows == OVER:
            follows = FINISH
        if isinstance(follows, Fault) and self.talk.status:
            follows = FINISH
        if follows != PATIENCE:
            self.ending = follows
            self.intake.leave(CLOSED)
