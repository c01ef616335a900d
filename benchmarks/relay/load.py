"""Load: wrk for small requests, plain sockets for what wrk cannot do."""

from __future__ import annotations

import asyncio
import math
import re
import shutil
import socket
import statistics
import subprocess
import time
from typing import NamedTuple

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"  # noqa: E501
MIB = 1024 * 1024
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


class Small(NamedTuple):
    """Requests per second, seconds of latency, and how many requests there were."""

    rate: float
    p50: float
    p99: float
    total: int


def small(port: int, connections: int, seconds: float, core: int, *, close: bool = False) -> Small:
    if shutil.which("wrk") is None:
        raise FileNotFoundError("wrk is not on the PATH")
    command = [
        "taskset",
        "-c",
        str(core),
        "wrk",
        "-t1",
        f"-c{connections}",
        f"-d{math.ceil(seconds)}s",
    ]
    if close:
        command += ["-H", "Connection: close"]
    command += ["--latency", f"http://127.0.0.1:{port}/api/x"]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, start_new_session=True
    )
    text = done.stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    p50, p99 = (re.search(rf"{share}%\s+([\d.]+)(us|ms|s|m)", text) for share in ("50", "99"))
    total = re.search(r"(\d+) requests in", text)
    assert rate
    assert total
    assert p50
    assert p99
    half, most = (float(m[1]) * _UNITS[m[2]] for m in (p50, p99))
    return Small(float(rate[1]), half, most, int(total[1]))


def _connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def _head(sock: socket.socket, status: bytes = b"200") -> bytes:
    """Read a response head; what came after it. Raises `ConnectionError` for another status."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError("no response head")
        data += more
    if data[9:12] != status:
        raise ConnectionError(f"answered {data[9:12].decode()} instead of {status.decode()}")
    return data.partition(b"\r\n\r\n")[2]


def download(port: int, size: int) -> float:
    """Bytes per second."""
    buffer = bytearray(MIB)
    with _connect(port) as sock:
        begin = time.perf_counter()
        sock.sendall(b"GET /bytes/%d HTTP/1.1\r\nHost: a\r\n\r\n" % size)
        left = size - len(_head(sock))
        while left:
            got = sock.recv_into(buffer)
            if not got:
                raise ConnectionError(f"{left} bytes were missing")
            left -= got
        return size / (time.perf_counter() - begin)


def upload(port: int, size: int) -> float:
    """Bytes per second."""
    block = b"x" * MIB
    with _connect(port) as sock:
        begin = time.perf_counter()
        sock.sendall(b"POST /drop HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            sock.sendall(block)
        _head(sock)
        return size / (time.perf_counter() - begin)


def _tunnel(port: int) -> socket.socket:
    sock = _connect(port)
    sock.sendall(UPGRADE)
    _head(sock, b"101")
    return sock


def frame(payload: bytes) -> bytes:
    """A masked binary frame, the mask being zero; RFC 6455 section 5.2."""
    size = len(payload)
    if size < 126:
        head = bytes([0x82, 0x80 | size])
    elif size < 65536:
        head = b"\x82\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x82\xff" + size.to_bytes(8, "big")
    return head + b"\0\0\0\0" + payload


def echo_large(port: int, size: int, seconds: float) -> float:
    """Messages per second, one at a time on one connection."""
    message = frame(b"x" * size)
    buffer = bytearray(MIB)
    count = 0
    with _tunnel(port) as sock:
        begin = time.perf_counter()
        while (passed := time.perf_counter() - begin) < seconds:
            sock.sendall(message)
            left = len(message)
            while left:
                left -= sock.recv_into(buffer)
            count += 1
    return count / passed


class _Echo(asyncio.Protocol):
    def __init__(self, message: bytes) -> None:
        self.message = message
        self.got = 0
        self.count = -1  # the handshake

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.transport.write(UPGRADE)

    def data_received(self, data: bytes) -> None:
        self.got += len(data)
        if self.count < 0 or self.got >= len(self.message):
            self.got = 0
            self.count += 1
            self.transport.write(self.message)


async def echo_small(port: int, connections: int, seconds: float) -> float:
    """Messages per second over all connections, one at a time on each."""
    loop = asyncio.get_running_loop()
    message = frame(b"x" * 32)
    pairs = [
        await loop.create_connection(lambda: _Echo(message), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.sleep(0.2)
    before = sum(protocol.count for _, protocol in pairs)
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    count = sum(protocol.count for _, protocol in pairs) - before
    passed = time.perf_counter() - begin
    for transport, _ in pairs:
        transport.abort()
    return count / passed


class _Listener(asyncio.Protocol):
    def __init__(self, delays: list[float]) -> None:
        self.delays = delays

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.delays += ((now - int(sent)) / 1e9 for sent in re.findall(rb"data: (\d{9,})\n", data))


async def events(port: int, clients: int, seconds: float) -> tuple[float, float]:
    """Events per second that arrived, and the 99th percentile of their delay in seconds."""
    loop = asyncio.get_running_loop()
    delays: list[float] = []
    transports = [
        (await loop.create_connection(lambda: _Listener(delays), "127.0.0.1", port))[0]
        for _ in range(clients)
    ]
    await asyncio.sleep(0.3)
    delays.clear()
    await asyncio.sleep(seconds)
    arrived = list(delays)
    for transport in transports:
        transport.abort()
    if len(arrived) < 2:
        raise ConnectionError("no events arrived")
    return len(arrived) / seconds, statistics.quantiles(arrived, n=100)[98]


class Idle:
    """Many upgraded connections that say nothing."""

    def __init__(self, port: int, count: int) -> None:
        self._sockets = [_tunnel(port) for _ in range(count)]

    def close(self) -> None:
        for sock in self._sockets:
            sock.close()
