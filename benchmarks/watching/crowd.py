"""Clients that wait: half of the watchers by long polls, half by event streams, and held requests.

    python -m benchmarks.watching.crowd PORT WATCHERS HELD

A process of its own that works on bare sockets, so that it takes little of the machine from the
proxy. It prints a line when everybody waits, and at the end what each has heard as JSON.

When something arrives is told by the kernel (`SO_TIMESTAMPNS`), so how late this process
comes to read it is not counted to the proxy; that is reported on its own.
"""

from __future__ import annotations

import json
import resource
import select
import socket
import struct
import sys
import time

# From <asm-generic/socket.h>, and struct timespec of 64-bit Linux.
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("qq")

POLL = b"GET /api/init?wait=120&state=ready HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = b"GET /api/init HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n"
HELD = b"GET /held/%d HTTP/1.1\r\nHost: x\r\n\r\n"
STATES = (b"dormant", b"initializing", b"ready")

LONGEST = 90.0  # seconds for everybody to hear
SETTLED = 0.5  # seconds after the last poll was sent: nothing tells when the proxy has read it


class CrowdError(Exception):
    """Somebody was told what is not right."""


class Client:
    """One connection and all that came on it; `arrived` and `read` are the last bytes' times."""

    kind = ""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.arrived = self.read = 0.0

    def receive(self, now: float) -> None:
        data, ancillary, _, _ = self.socket.recvmsg(65536, 128)
        if not data:
            raise CrowdError(f"{self!r} was cut after {self.received!r}")
        self.received += data
        self.arrived = self.read = now
        if ancillary:  # not in the first moments: the kernel begins to stamp a little later
            seconds, nanoseconds = TIMESPEC.unpack_from(ancillary[0][2])
            self.arrived = seconds + nanoseconds / 1e9

    @property
    def done(self) -> bool:
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{self.kind} {self.socket.getsockname()}>"


class Poller(Client):
    kind = "poll"

    @property
    def done(self) -> bool:
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end or not body:
            return False
        if not head.startswith(b"HTTP/1.1 200 ") or json.loads(body)["state"] != "ready":
            raise CrowdError(f"{self!r} was told {self.received!r}")
        return True


class Streamer(Client):
    kind = "stream"

    @property
    def done(self) -> bool:
        """Every state once, in order."""
        told = [part.split(b'"')[1] for part in self.received.split(b'"state": ')[1:]]
        if tuple(told) != STATES[: len(told)]:
            raise CrowdError(f"{self!r} was told {told}")
        return len(told) == len(STATES)


class Requester(Client):
    kind = "held"

    def __init__(self, port: int, number: int) -> None:
        super().__init__(port)
        self.number = number

    @property
    def done(self) -> bool:
        head, end, body = self.received.partition(b"\r\n\r\n")
        wanted = b"/held/%d" % self.number
        if not end or len(body) < len(wanted):
            return False
        if not head.startswith(b"HTTP/1.1 200 ") or body != wanted:
            raise CrowdError(f"{self!r} was answered {self.received!r}")
        return True


class Crowd:
    def __init__(self, port: int, watchers: int, held: int) -> None:
        self.watchers: list[Client] = [(Streamer, Poller)[n % 2](port) for n in range(watchers)]
        self.requesters = [Requester(port, number) for number in range(held)]
        self._poll = select.epoll()
        self._waiting: dict[int, Client] = {}

    def watch(self) -> None:
        """Begin to watch; returns when everybody does."""
        for watcher in self.watchers:
            watcher.socket.sendall(STREAM if isinstance(watcher, Streamer) else POLL)
        for watcher in self.watchers:
            if isinstance(watcher, Streamer):
                while b'"state": "dormant"' not in watcher.received:
                    watcher.receive(time.time())
        time.sleep(SETTLED)

    def hear(self) -> None:
        """Ask for the upstream once it starts, and wait until everybody has an answer."""
        for watcher in self.watchers:
            self._await(watcher)
        deadline = time.monotonic() + LONGEST
        asked = not self.requesters
        while self._waiting or not asked:
            for number, _ in self._poll.poll(max(0.0, deadline - time.monotonic())):
                client = self._waiting[number]
                client.receive(time.time())
                if client.done:
                    self._poll.unregister(number)
                    del self._waiting[number]
                if not asked and b"initializing" in client.received:
                    asked = True
                    self._ask()
            if time.monotonic() > deadline:
                raise CrowdError(f"{len(self._waiting)} have heard nothing in {LONGEST:g} s")

    def _ask(self) -> None:
        for requester in self.requesters:
            requester.socket.sendall(HELD % requester.number)
            self._await(requester)

    def _await(self, client: Client) -> None:
        self._waiting[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)


def main() -> None:
    port, watchers, held = (int(argument) for argument in sys.argv[1:])
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(port, watchers, held)
    crowd.watch()
    print("waiting", flush=True)
    crowd.hear()
    everybody = [*crowd.watchers, *crowd.requesters]
    print(json.dumps([(each.kind, each.arrived, each.read) for each in everybody]))


if __name__ == "__main__":
    main()
