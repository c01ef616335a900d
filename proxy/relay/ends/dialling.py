"""Connecting backends: to the upstream by its address, to the control plane by a socket pair."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from proxy.errors import cause_of
from proxy.relay.ends.backend import Backend, Dial
from proxy.relay.ends.keepalive import keep_alive
from proxy.relay.exchange.conversation import CONTROL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from collections.abc import Set as AbstractSet

    from proxy.relay.http.limits import Limits
    from proxy.relay.patience.wheel import Wheel
    from proxy.settings import TcpAddress, UnixAddress

logger = logging.getLogger(__name__)

# Seconds after which a listener with a full queue is tried again.
_FULL_QUEUE_SECONDS: Final = 0.01


class Dialler:
    """Opens connections to the upstream at `address`, each within `connect_timeout`.

    `control(sock)` gives one end of a socket pair to the control plane.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        wheel: Wheel,
        limits: Limits,
        address: TcpAddress | UnixAddress,
        control: Callable[[socket.socket], Awaitable[object]],
    ) -> None:
        self._loop = loop
        self._wheel = wheel
        self._seconds = limits.connect_timeout
        self._ticks = wheel.ticks(self._seconds)
        self._keepalive = None if address.loopback else limits.keepalive
        self._address = address
        self._control = control
        self._dials: dict[asyncio.Task[None], Dial] = {}

    @property
    def under_way(self) -> AbstractSet[asyncio.Task[None]]:
        return self._dials.keys()

    def open(self, backend: Backend) -> None:
        """Begin to connect `backend`; it takes what is written to it meanwhile."""
        control = backend.source == CONTROL
        work = self._open_control(backend) if control else self._open_upstream(backend)
        task = self._loop.create_task(work)
        backend.dial = dial = self._dials[task] = Dial(backend, task, self._wheel, self._seconds)
        task.add_done_callback(self._dials.pop)
        if not control:
            self._wheel.arm(dial, self._ticks)

    def reconsider(self) -> None:
        for dial in list(self._dials.values()):
            if dial.backend.dial is dial:
                dial.backend.reconsider()

    def close(self) -> None:
        for task in self._dials:
            task.cancel()

    async def _open_upstream(self, backend: Backend) -> None:
        try:
            await self._connect(backend)
        except OSError as error:
            why = cause_of(error) if error.errno else None
            backend.refused(502, f"cannot connect to the upstream: {why or 'no address answers'}")

    async def _connect(self, backend: Backend) -> None:
        address = self._address
        if hasattr(address, "path"):  # the settings' classes are named here, not known
            await self._connect_unix(backend, address.path)
        else:
            await self._connect_tcp(backend, address)

    async def _connect_tcp(self, backend: Backend, address: TcpAddress) -> None:
        connecting = self._loop.create_connection(lambda: backend, address.host, address.port)
        transport, _ = await connecting
        if self._keepalive is not None and not transport.is_closing():
            keep_alive(transport.get_extra_info("socket"), self._keepalive)

    async def _connect_unix(self, backend: Backend, path: str) -> None:
        while True:
            try:
                await self._loop.create_unix_connection(lambda: backend, path)
            except BlockingIOError:
                # The listener's queue is full; TCP would try again by itself.
                await asyncio.sleep(_FULL_QUEUE_SECONDS)
            else:
                return

    async def _open_control(self, backend: Backend) -> None:
        ends: tuple[socket.socket, ...] = ()
        try:
            ends = ours, theirs = socket.socketpair()  # fails when no descriptor is left
            ours.setblocking(False)
            theirs.setblocking(False)
            await self._control(theirs)
            await self._loop.create_unix_connection(lambda: backend, sock=ours)
        except BaseException as error:
            for end in ends:
                end.close()
            if not isinstance(error, Exception):
                raise  # given up meanwhile
            logger.exception("cannot reach the control plane")
            backend.refused(502, "cannot reach the control plane")
