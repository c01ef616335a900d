"""Both ends of the relay as raw sockets: a test plays the client and the upstream itself."""

from __future__ import annotations

import asyncio
import ctypes
import socket
import struct
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from aiohttp import web

from proxy.lifecycle.gate import CONTROL_PATHS, Verdict
from proxy.relay import Relay, Shared
from proxy.settings import LimitSettings, TcpAddress, UnixAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

PATIENCE = 60.0  # seconds until a wait is a failure
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def message(first: bytes, *fields: bytes, body: bytes = b"") -> bytes:
    """A message from its lines."""
    return b"\r\n".join((first, *fields)) + b"\r\n\r\n" + body


def get(target: bytes, *fields: bytes) -> bytes:
    return message(b"GET " + target + b" HTTP/1.1", b"Host: a", *fields)


_SO_ATTACH_FILTER = 26  # socket(7)
_DROP_ALL = struct.pack("HBBI", 6, 0, 0, 0)  # BPF_RET | BPF_K, of which 0 bytes are kept


def vanish(sock: socket.socket) -> None:
    """Have the kernel drop every packet that comes for a connection, as a dead network would."""
    program = ctypes.create_string_buffer(_DROP_ALL)
    sock.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", 1, ctypes.addressof(program))
    )


class Wire:
    """One connection; every wait is bounded."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer

    async def send(self, *segments: bytes) -> Self:
        """Send; several segments leave as that many writes, with the loop let run between."""
        for index, segment in enumerate(segments):
            if index:
                await asyncio.sleep(0.002)
            self.writer.write(segment)
            async with asyncio.timeout(PATIENCE):
                await self.writer.drain()
        return self

    async def until(self, end: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readuntil(end)

    async def head(self) -> bytes:
        return await self.until(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.readexactly(size)

    async def some(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read(2**20)

    async def rest(self) -> bytes:
        """Everything to the end, which must be a clean one."""
        async with asyncio.timeout(PATIENCE):
            return await self._reader.read()

    async def ending(self) -> tuple[bytes, str]:
        """Everything to the end, and whether that was `eof` or `reset`."""
        got = b""
        try:
            async with asyncio.timeout(PATIENCE):
                while data := await self._reader.read(65536):
                    got += data
        except ConnectionError:
            return got, "reset"
        return got, "eof"

    async def response(self) -> tuple[bytes, bytes]:
        """Head and body of a response with Content-Length."""
        head = await self.head()
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                return head, await self.exactly(int(value))
        return head, b""

    def pause(self) -> None:
        """Read no more, so that the peer's window closes."""
        transport = cast("asyncio.Transport", self.writer.transport)
        transport.pause_reading()

    def resume(self) -> None:
        """Read again."""
        transport = cast("asyncio.Transport", self.writer.transport)
        transport.resume_reading()

    def vanish(self) -> None:
        """Be as if the network were gone: no packet reaches the socket, so it answers none."""
        vanish(self.writer.get_extra_info("socket"))

    def eof(self) -> None:
        self.writer.write_eof()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Pair:
    """A relay on a port of its own, before an upstream that hands its connections to the test."""

    relay: Relay
    port: int

    def __init__(self) -> None:
        self.verdict = Verdict.RELAY
        self.accepted: asyncio.Queue[Wire] = asyncio.Queue()
        self.wires: list[Wire] = []
        self.unix: str | None = None
        self.control: web.AppRunner | None = None
        self.over = False
        self.listener: asyncio.Server | None = None  # of the upstream
        self.polled = asyncio.Event()  # ends the long polls of the control plane

    @property
    def control_connections(self) -> int:
        """Connections that the control plane knows of."""
        assert self.control is not None
        assert self.control.server is not None
        return len(self.control.server.connections)

    def gate(self, _method: bytes, target: bytes) -> Verdict:
        own = target.partition(b"?")[0] in CONTROL_PATHS
        return Verdict.CONTROL if own else self.verdict

    async def connect(self) -> Wire:
        if self.unix is not None:
            wire = Wire(*await asyncio.open_unix_connection(self.unix, limit=2**24))
        else:
            wire = Wire(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**24))
        self.wires.append(wire)
        return wire

    async def sent(self, *segments: bytes) -> Wire:
        return await (await self.connect()).send(*segments)

    def stop_listening(self) -> None:
        """Whoever connects to the upstream from here on is refused."""
        assert self.listener is not None
        self.listener.close()

    async def accept(self) -> Wire:
        async with asyncio.timeout(PATIENCE):
            return await self.accepted.get()

    async def exchange(self, *segments: bytes) -> tuple[Wire, Wire, bytes]:
        """Send a request; both ends and the head that arrived."""
        client = await self.sent(*segments)
        upstream = await self.accept()
        return client, upstream, await upstream.head()

    async def kept(self, target: bytes = b"/1") -> tuple[Wire, Wire]:
        """Both ends of connections that are kept, after an exchange that went well."""
        client, upstream, _ = await self.exchange(get(target))
        await upstream.send(OK)
        assert await client.exactly(len(OK)) == OK
        return client, upstream

    async def accept_wire(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        wire = Wire(reader, writer)
        self.wires.append(wire)
        self.accepted.put_nowait(wire)
        if self.over:
            writer.transport.abort()


_POLLED = web.AppKey("polled", asyncio.Event)


async def _own(request: web.Request) -> web.Response:
    body = await request.read()
    if "wait" in request.query:
        await request.app[_POLLED].wait()
    key = request.headers.get("X-Init-API-Key")
    return web.json_response({"path": request.raw_path, "size": len(body), "key": key})


async def settle(condition: Any) -> None:
    """Wait until `condition()` holds."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.005)


@contextmanager
def full_queue() -> Iterator[TcpAddress]:
    """Where nobody is accepted, and the queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        with socket.create_connection(address):  # all that the queue takes
            yield TcpAddress(*address)


@asynccontextmanager
async def pair(
    *, unix: Path | None = None, dial: TcpAddress | UnixAddress | None = None, **options: Any
) -> AsyncIterator[Pair]:
    """A running `Pair`; `unix`: both listeners are Unix sockets in that directory.

    Options named as limits are limits, the others are the relay's.
    """
    loop = asyncio.get_running_loop()
    limits = {
        name: options.pop(name) for name in list(options) if name in LimitSettings.model_fields
    }
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", _own)
    ends = Pair()
    app[_POLLED] = ends.polled
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()

    async def control(sock: socket.socket) -> None:
        assert runner.server is not None
        await loop.connect_accepted_socket(runner.server, sock)

    ends.control = runner
    if unix is not None:
        path = str(unix / "upstream")
        upstream = await asyncio.start_unix_server(ends.accept_wire, path, limit=2**24)
        address: TcpAddress | UnixAddress = UnixAddress(path)
    else:
        upstream = await asyncio.start_server(ends.accept_wire, "127.0.0.1", 0, limit=2**24)
        address = TcpAddress("127.0.0.1", upstream.sockets[0].getsockname()[1])
    ends.listener = upstream
    shared = Shared(
        gate=ends.gate,
        dial=dial or address,
        control=control,
        limits=LimitSettings.model_construct(**limits),
        **options,
    )
    ends.relay = relay = Relay(shared)
    if unix is not None:
        ends.unix = str(unix / "relay")
        server = await loop.create_unix_server(relay, ends.unix)
    else:
        server = await loop.create_server(relay, "127.0.0.1", 0)
        ends.port = server.sockets[0].getsockname()[1]
    try:
        yield ends
    finally:
        server.close()
        relay.abort()
        upstream.close()
        ends.over = True
        for wire in ends.wires:
            wire.writer.transport.abort()
        for _ in range(10):  # more turns than a connection takes that was accepted just before
            await asyncio.sleep(0)
        await settle(lambda: not relay.open_connections)
        await runner.cleanup()
