"""The relay as a whole: its connections, and how they end.

An instance is a protocol factory for `loop.create_server` and `loop.create_unix_server`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from proxy.lifecycle.gate import Verdict
from proxy.relay.ends.client import Client
from proxy.relay.exchange.intake import HEAD
from proxy.relay.patience.crowd import Crowd

if TYPE_CHECKING:
    from proxy.relay.ends.shared import Shared

logger = logging.getLogger(__name__)


class Relay:
    """Every connection that is open, by what they have in `shared`.

    The counters are for the metrics: totals of connections, requests and bytes (in: from clients,
    out: from backends and ourselves), refusals by reason, and the tunnels that are open.
    """

    def __init__(self, shared: Shared) -> None:
        self.shared = shared
        self.clients: set[Client] = set()
        self.crowd = Crowd(shared.most, shared.places, _silent)
        self._gone = asyncio.Event()  # set whenever a connection ends while draining
        self.connections = 0
        self.refusals = shared.refusals
        self._received = self._returned = 0  # by connections that are closed

    def __call__(self) -> Client:
        return Client(self.shared, self.shared.gate, self._admit, self._forget)

    @property
    def requests(self) -> int:
        return self.shared.requests

    @property
    def tunnels(self) -> int:
        return self.shared.tunnels

    @property
    def bytes_in(self) -> int:
        return self._received + sum(client.record.received for client in self.clients)

    @property
    def bytes_out(self) -> int:
        return self._returned + sum(client.record.returned for client in self.clients)

    @property
    def held_requests(self) -> int:
        """Requests that wait for the upstream at present."""
        return len(self.shared.parking)

    @property
    def kept_bytes(self) -> int:
        """Of heads, bodies and answers, for clients that wait."""
        return self.shared.budget.used

    @property
    def open_connections(self) -> int:
        """Client connections at present, tunnels included."""
        return len(self.clients)

    def count_no_more(self) -> None:
        """Nobody will ask for the tally."""
        self.shared.telling.count_no_more()

    async def drain(self, grace: float, *, tunnels: bool = False) -> None:
        """Close idle connections, let requests that are under way end within `grace` seconds.

        Returns when nothing but tunnels is left (with `tunnels`: nothing at all), or the time is
        up. Every connection ends with the request that it is working on.
        """
        self.shared.draining = True
        for client in list(self.clients):
            client.drain()
        try:
            async with asyncio.timeout(grace):
                while any(tunnels or client.talk.busy for client in self.clients):
                    self._gone.clear()
                    await self._gone.wait()
        except TimeoutError:
            logger.info("requests were still under way", extra={"connections": len(self.clients)})

    def abort(self) -> None:
        """Cut everything."""
        for client in list(self.clients):
            client.talk.cause = "shutdown"
            client.abort()
        self.shared.close()

    def reconsider(self, *, left: bool = False, over: bool = False) -> None:
        """Ask the gate again about requests that have not reached the upstream.

        Call it at every change of its answers: what one takes back, the next must not give again.
        `left`: the upstream is gone, or not to be asked any more; `over`: the next one is
        another's, for whom nothing is meant that has come so far.
        """
        self.shared.parking.reconsider()
        self.shared.dialler.reconsider()
        if over:
            self.shared.forget()
        if left or over:
            for client in list(self.clients):
                client.outlive(left=left, over=over)

    def _gate_of_crowd(self, method: bytes, target: bytes) -> Verdict:
        verdict = self.shared.gate(method, target)
        return verdict if verdict is Verdict.CONTROL else Verdict.CROWDED

    def _admit(self, client: Client) -> None:
        self.connections += 1
        self.clients.add(client)
        self.shared.wheel.arm(client, self.shared.head_ticks)
        if not self.crowd.admit(client):
            client.gate = self._gate_of_crowd

    def _forget(self, client: Client) -> None:
        self.clients.discard(client)
        self.crowd.forget(client)
        self._received += client.record.received
        self._returned += client.record.returned
        self.shared.wheel.forget(client)
        if self.shared.draining:
            self._gone.set()


def _silent(client: Client) -> bool:
    """Whether it has no request under way, and has sent nothing of one."""
    intake = client.talk.intake
    return intake.stage == HEAD and not intake.held and not client.wire.unread()
