"""Random bytes for both sides, without sockets: `python -m tests.relay.raw.fuzz SECONDS`.

A case is a stream of requests and one of responses, both from the corpora, mutated, cut anywhere
and interleaved. Whatever they are, nothing may raise, what reaches the upstream must be what a
strict parser reads, and what reaches the client must be the upstream's bytes or our own refusal.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from typing import TYPE_CHECKING, Any, cast

import httptools

from proxy.lifecycle.gate import Verdict
from proxy.relay import Relay, Shared
from proxy.settings import LimitSettings, TcpAddress
from tests.relay.raw.corpus_requests import ACCEPTED, REFUSED
from tests.relay.raw.corpus_responses import BAD, CUT, SAME

if TYPE_CHECKING:
    import socket

    from proxy.relay.ends.backend import Backend

REQUESTS = [case for case in ACCEPTED if len(case) < 2000] + [
    case for _, case in REFUSED if len(case) < 2000
]
RESPONSES = [case for case in SAME + BAD if len(case) < 2000] + [a + b for a, b in CUT]
TOKENS = [b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"0", b"\r\n\r\n", b"chunked", b"\xff", b"5"]

_SILENT = os.pipe()  # nothing to read, and no end


class Transport:
    """What the relay writes, kept."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.closing = False

    def write(self, data: bytes) -> None:
        assert data, "an empty write"
        assert not self.closing, "a write behind the end"
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = write_eof = close

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("1.2.3.4", 5), "socket": self}.get(name)

    def fileno(self) -> int:
        return _SILENT[0]

    def get_write_buffer_size(self) -> int:
        return 0

    def ignore(self, **_: object) -> None: ...

    pause_reading = resume_reading = set_write_buffer_limits = ignore


def mutated(rng: random.Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((0, 0, 1, 1, 2, 5))):
        at = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0:
            changed[at:at] = rng.choice(TOKENS)
        elif kind == 1:
            del changed[at : at + rng.randrange(1, 9)]
        elif kind == 2 and at < len(changed):
            changed[at] = rng.randrange(256)
        else:
            changed[at:at] = changed[at : at + rng.randrange(40)]
    return bytes(changed)


def cut(rng: random.Random, data: bytes) -> list[bytes]:
    places = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 1, 3, 9))))
    ends = [*places, len(data)]
    return [data[a:b] for a, b in zip([0, *places], ends, strict=True) if a < b]


class Case:
    """One connection, played to its end."""

    def __init__(self, relay: Relay, rng: random.Random) -> None:
        self.rng = rng
        self.backends: list[tuple[Backend, Transport]] = []
        vars(relay.shared.dialler)["open"] = self.open  # in place of a real connection
        self.client = relay()
        self.wire = Transport()
        self.client.connection_made(cast("asyncio.BaseTransport", self.wire))
        self.sent = self.stream(REQUESTS)
        self.answers = self.stream(RESPONSES)
        self.given = b""

    def stream(self, cases: list[bytes]) -> bytes:
        parts = self.rng.choices(cases, k=self.rng.randrange(1, 4))
        return b"".join(mutated(self.rng, part) for part in parts)

    def open(self, backend: Backend) -> None:
        transport = Transport()
        self.backends.append((backend, transport))
        backend.connection_made(cast("asyncio.BaseTransport", transport))

    def play(self) -> None:
        requests, answers = cut(self.rng, self.sent), cut(self.rng, self.answers)
        while (requests or answers) and not self.wire.closing:
            if requests and (self.rng.random() < 0.5 or not answers):
                self.client.data_received(requests.pop(0))
            elif answers:
                answer = answers.pop(0)
                if self.backends and not self.backends[-1][1].closing:
                    self.given += answer
                    self.backends[-1][0].data_received(answer)
        for backend, transport in self.backends:
            if not transport.closing:
                backend.eof_received()
            backend.connection_lost(None)
        self.client.connection_lost(None)

    def judge(self) -> None:
        for _, transport in self.backends:
            arrived = bytes(transport.written)
            parser = httptools.HttpRequestParser(object())
            try:
                parser.feed_data(arrived)
            except (httptools.HttpParserUpgrade, httptools.HttpParserInvalidMethodError):
                continue  # a tunnel from there on; a method that only we take
        got = bytes(self.wire.written)
        own = got.find(b"\r\nContent-Type: application/json\r\nContent-Length: ")
        passed = got if own < 0 else got[: got.rfind(b"HTTP/1.1 ", 0, own)]
        assert len(self.backends) > 1 or self.given.startswith(passed) or not passed


def run(seconds: float, seed: int) -> int:
    """Play cases for `seconds`; how many. A failure names the seed that repeats it."""
    count = 0
    until = time.monotonic() + seconds

    async def nothing(_: socket.socket) -> None: ...

    async def main() -> None:
        nonlocal count
        while time.monotonic() < until:
            shared = Shared(
                gate=lambda _m, _t: Verdict.RELAY,
                dial=TcpAddress("127.0.0.1", 1),
                control=nothing,
                limits=LimitSettings(),
            )
            relay = Relay(shared)
            for _ in range(100):
                case = Case(relay, random.Random(seed + count))
                try:
                    case.play()
                    case.judge()
                except Exception:
                    print(f"seed {seed + count}: {case.sent!r} {case.answers!r}", file=sys.stderr)
                    raise
                count += 1
            shared.wheel.close()

    asyncio.run(main())
    return count


if __name__ == "__main__":
    start = random.SystemRandom().randrange(2**40)
    print(run(float(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else start), "cases")
