"""A small upstream that takes a thousand connections at once and answers each with its own target.

    python upstream.py --unix PATH --delay SECONDS

It begins to listen `--delay` after its start: about what a warm start of a real server takes.
"""

from __future__ import annotations

import argparse
import asyncio
import socket

BACKLOG = 1024


class Answer(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.received = b""

    def data_received(self, data: bytes) -> None:
        self.received += data
        while b"\r\n\r\n" in self.received:  # no request here has a body
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            target = head.split(b" ", 2)[1]
            fields = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(target)
            self.transport.write(fields + target)


async def serve(path: str, delay: float) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    await asyncio.sleep(delay)
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(Answer, sock=sock, backlog=BACKLOG)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix", required=True)
    parser.add_argument("--delay", type=float, required=True)
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.unix, arguments.delay))


if __name__ == "__main__":
    main()
