"""The relay as a whole: what its connections share, and how they end.

An instance is a protocol factory for `loop.create_server` and `loop.create_unix_server`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import TYPE_CHECKING, Final

from proxy.relay.ends.client import Client
from proxy.relay.exchange.refusals import (
    BAD_REQUEST,
    ERROR_REASONS,
    GATE_REASONS,
    Refusal,
    plain_refusal,
)
from proxy.relay.http.forwarding import Peers
from proxy.relay.http.limits import FLUSH_SECONDS, HANGUP_SECONDS, LINGER_SECONDS
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import ResponseReader
from proxy.relay.patience.hangups import Hangups
from proxy.relay.patience.parking import Parking
from proxy.relay.patience.wheel import Wheel

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.lifecycle.gate import Verdict
    from proxy.relay.ends.backend import Backend
    from proxy.relay.http.forwarding import Network
    from proxy.relay.http.head import RequestHead
    from proxy.relay.http.limits import Limits
    from proxy.relay.telling.accesslog import AccessLog
    from proxy.relay.telling.tally import Tally
    from proxy.settings import TcpAddress, UnixAddress

logger = logging.getLogger(__name__)

# Connections over the limit are told so; over this much of it they are just cut.
_TOLD: Final = 1.25
# Seconds after which a listener with a full queue is tried again.
_FULL_QUEUE_SECONDS: Final = 0.01


class Relay:
    """Relays to the upstream at `dial`.

    `gate(method, target)` judges every request when its head is complete. `control(sock)` gives
    one end of a socket pair to the control plane. `refuse(verdict, head)` words a refusal.
    `admits(head)` says whether a request for the upstream may be made by whoever makes it;
    `strip_session_keys`: the header of that kind ends here.
    `hold` is how many seconds a request waits that the gate wants to be held.
    Peers in `trusted_proxies` may say who their client is; those on a Unix socket only with
    `trust_unix`.

    The counters are for the metrics: totals of connections, requests and bytes (in: from
    clients, out: from backends and ourselves), refusals by reason, and the tunnels that are open.
    `tally` and `access` hear of each request at its end.
    """

    def __init__(
        self,
        *,
        gate: Callable[[bytes, bytes], Verdict],
        dial: TcpAddress | UnixAddress,
        control: Callable[[socket.socket], Awaitable[object]],
        limits: Limits,
        refuse: Callable[[Verdict, RequestHead], Refusal] = plain_refusal,
        trusted_proxies: Iterable[Network] = (),
        trust_unix: bool = False,
        hold: float = 0,
        admits: Callable[[RequestHead], bool] | None = None,
        strip_session_keys: bool = False,
        tally: Tally | None = None,
        access: AccessLog | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.gate = gate
        self.refuse = refuse
        self.limits = limits
        self.peers = Peers(trusted_proxies, trust_unix=trust_unix)
        self.admits = admits
        self.tally = tally
        self.access = access
        self.watched = tally is not None or access is not None
        self.heads = HeadReader(limits, strip_session_keys=strip_session_keys)
        self.responses = ResponseReader(limits.head_size)
        self._dial = dial
        self._control = control
        self._loop = loop = loop or asyncio.get_running_loop()
        # Late by at most a fifth of the shortest timeout, and never woken more than twice a second
        # for the sake of the usual ones.
        shortest = min(limits.head_timeout, limits.idle_timeout, limits.connect_timeout)
        resolution = min(0.5, shortest / 5)
        self.wheel = wheel = Wheel(loop, resolution)
        self.head_ticks = wheel.ticks(limits.head_timeout)
        self.idle_ticks = wheel.ticks(limits.idle_timeout)
        self.connect_ticks = wheel.ticks(limits.connect_timeout)
        self.linger_ticks = wheel.ticks(LINGER_SECONDS)
        self.flush_ticks = wheel.ticks(FLUSH_SECONDS)
        self.hangups = Hangups(loop, min(HANGUP_SECONDS, limits.idle_timeout))
        self.draining = False
        self._clients: set[Client] = set()
        self._dials: dict[asyncio.Task[None], Backend] = {}
        self.parking = Parking(loop, hold, self._dials.keys())
        self._gone = asyncio.Event()  # set whenever a connection ends while draining
        self.connections = 0
        self.requests = 0
        self.tunnels = 0
        self._received = self._returned = 0  # by connections that are closed
        reasons = (*GATE_REASONS.values(), *ERROR_REASONS.values(), BAD_REQUEST)
        self.refusals = dict.fromkeys(reasons, 0)

    def __call__(self) -> Client:
        return Client(self)

    @property
    def bytes_in(self) -> int:
        return self._received + sum(client.received for client in self._clients)

    @property
    def bytes_out(self) -> int:
        return self._returned + sum(client.returned for client in self._clients)

    @property
    def held_requests(self) -> int:
        """Requests that wait for the upstream at present."""
        return len(self.parking)

    @property
    def open_connections(self) -> int:
        """Client connections at present, tunnels included."""
        return len(self._clients)

    def count_no_more(self) -> None:
        """Nobody will ask for the tally."""
        self.tally = None
        self.watched = self.access is not None

    async def drain(self, grace: float, *, tunnels: bool = False) -> None:
        """Close idle connections, let requests that are under way end within `grace` seconds.

        Returns when nothing but tunnels is left (with `tunnels`: nothing at all), or the time is
        up. Every connection ends with the request that it is working on.
        """
        self.draining = True
        for client in list(self._clients):
            client.drain()
        try:
            async with asyncio.timeout(grace):
                while any(tunnels or client.busy for client in self._clients):
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            logger.info("requests were still under way", extra={"connections": len(self._clients)})

    def abort(self) -> None:
        """Cut everything."""
        for client in list(self._clients):
            client.cause = "shutdown"
            client.abort()
        for task in self._dials:
            task.cancel()
        self.parking.close()
        self.hangups.close()
        self.wheel.close()

    def reconsider(self) -> None:
        """Ask the gate again about requests that have not reached the upstream.

        Call it at every change of its answers: what one takes back, the next must not give again.
        """
        self.parking.reconsider()
        for backend in list(self._dials.values()):
            backend.reconsider()

    # For the connections.

    def admit(self, client: Client) -> None:
        self.connections += 1
        self._clients.add(client)
        if len(self._clients) <= self.limits.connections:
            self.wheel.arm(client, self.head_ticks)
        elif len(self._clients) <= self.limits.connections * _TOLD + 1:
            client.refuse(503, "too many connections")
        else:
            client.abort()

    def forget(self, client: Client) -> None:
        self._clients.discard(client)
        self._received += client.received
        self._returned += client.returned
        self.wheel.forget(client)
        if self.draining:
            self._gone.set()

    def open(self, backend: Backend) -> Backend:
        """Begin to connect `backend`; it takes what is written to it meanwhile."""
        work = self._open_control(backend) if backend.control else self._open_upstream(backend)
        backend.dial = task = self._loop.create_task(work)
        self._dials[task] = backend
        task.add_done_callback(self._dials.pop)
        if not backend.control:
            self.wheel.arm(backend, self.connect_ticks)
        return backend

    async def _open_upstream(self, backend: Backend) -> None:
        try:
            await self._connect(backend)
        except OSError as error:
            why = error.strerror if error.errno else None
            backend.refused(502, f"cannot connect to the upstream: {why or 'no address answers'}")

    async def _connect(self, backend: Backend) -> None:
        dial = self._dial
        if hasattr(dial, "path"):  # the settings' classes are named here, not known
            await self._connect_unix(backend, dial.path)
        else:
            await self._loop.create_connection(lambda: backend, dial.host, dial.port)

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
        except Exception:
            logger.exception("cannot reach the control plane")
            for end in ends:
                end.close()
            backend.refused(502, "cannot reach the control plane")
