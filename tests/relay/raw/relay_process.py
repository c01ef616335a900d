"""A relay in a process of its own, to be measured: `python -m tests.relay.raw.relay_process PORT`.

Relays to 127.0.0.1:PORT, prints its own port, and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import uvloop

from proxy.lifecycle.gate import decide
from proxy.lifecycle.state import State
from proxy.relay import Relay, Shared
from proxy.settings import LimitSettings, TcpAddress

if TYPE_CHECKING:
    import socket


async def _no_control_plane(sock: socket.socket) -> None:
    sock.close()


async def main() -> None:
    loop = asyncio.get_running_loop()
    shared = Shared(
        gate=lambda _method, target: decide(State.READY, target),
        dial=TcpAddress("127.0.0.1", int(sys.argv[1])),
        control=_no_control_plane,
        limits=LimitSettings(),
    )
    relay = Relay(shared)
    port = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    server = await loop.create_server(relay, "127.0.0.1", port, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    server.close()
    relay.abort()


if __name__ == "__main__":
    uvloop.run(main())
