"""The upstream for everything but small requests: `python -m benchmarks.relay.upstream PORT`.

Bare on purpose, so that it costs less than any proxy before it:

    GET  /bytes/N   N bytes
    POST /drop      reads and drops the body, then answers
    GET  /events    server-sent events, one every 10 ms, each the sender's monotonic clock in ns
    Upgrade         echoes whatever comes, frame borders included
"""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import cast

import uvloop

BLOCK = b"x" * 262_144
INTERVAL = 0.01
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    # The answer to the key of the example in RFC 6455, which is what the load sends.
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Upstream(asyncio.Protocol):
    listeners: set[asyncio.Transport] = set()  # noqa: RUF012  shared by all connections

    def __init__(self) -> None:
        self.kept = b""
        self.left = 0  # bytes of a body to drop
        self.owed = 0  # bytes of a body to send
        self.echo = False
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the event loop's
        self.owed = 0
        self.listeners.discard(self.transport)

    def data_received(self, data: bytes) -> None:
        if self.echo:
            self.transport.write(data)
        elif self.left:
            self.left -= len(data)
            if not self.left:
                self.transport.write(OK)
        else:
            self.kept += data
            while b"\r\n\r\n" in self.kept:
                head, _, self.kept = self.kept.partition(b"\r\n\r\n")
                self.answer(head)

    def answer(self, head: bytes) -> None:
        target = head.split(b" ", 2)[1]
        if re.search(rb"\r\nupgrade:", head, re.IGNORECASE):
            self.echo = True
            self.transport.write(SWITCH + self.kept)
            self.kept = b""
        elif target.startswith(b"/bytes/"):
            self.owed = int(target[7:])
            self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self.owed)
            self.pay()
        elif target == b"/events":
            self.transport.write(EVENTS)
            self.listeners.add(self.transport)
        else:
            found = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
            self.left = (int(found[1]) if found else 0) - len(self.kept)
            self.kept = b""
            if not self.left:
                self.transport.write(OK)

    def pay(self) -> None:
        while self.owed and not self.paused:
            block = BLOCK[: self.owed]
            self.owed -= len(block)
            self.transport.write(block)

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self.pay()


async def main() -> None:
    loop = asyncio.get_running_loop()
    await loop.create_server(Upstream, "127.0.0.1", int(sys.argv[1]), backlog=4096)
    due = loop.time()
    while True:
        due += INTERVAL  # from the last one's due time, so that none is lost to lateness
        await asyncio.sleep(due - loop.time())
        event = b"data: %d\n\n" % time.monotonic_ns()
        for listener in Upstream.listeners:
            listener.write(b"%x\r\n%b\r\n" % (len(event), event))


if __name__ == "__main__":
    uvloop.run(main())
