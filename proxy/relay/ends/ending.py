"""How a client's connection ends, which decides what the client sees of its last answer.

A plain close with unread bytes behind it is a reset, and a reset takes away what the client has
not read yet; so an end that the client may still be sending into lingers: FIN, then read and drop
for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from proxy.relay.exchange.intake import CLOSED, HEAD, LINGER, TUNNEL, WAIT
from proxy.relay.patience.parking import Parked
from proxy.relay.patience.wheel import Timed

if TYPE_CHECKING:
    from proxy.relay.ends.service import Service
    from proxy.relay.ends.shared import Shared
    from proxy.relay.ends.wire import Wire
    from proxy.relay.exchange.intake import Intake
    from proxy.relay.patience.budget import Share


class Watched(Timed, Parked, Protocol):
    """A client, as those who look after clients know it."""


@dataclass(slots=True, eq=False)
class Ending:
    """The ways to end one connection: the client gets all, or what the transport has, or is cut."""

    _client: Watched
    _shared: Shared
    _intake: Intake
    _service: Service
    _wire: Wire
    _share: Share

    def finish(self) -> None:
        """End the connection so that the client gets all that was written."""
        if self._wire.ended or (self._intake.stage in {HEAD, WAIT} and not self._intake.held):
            self.close()
        elif self._intake.stage not in {LINGER, CLOSED}:
            self.linger()

    def linger(self) -> None:
        if self._wire.ended:
            self.close()
            return
        self._intake.leave(LINGER)
        self.let_go()
        self._wire.linger()
        self._shared.wheel.arm(self._client, self._shared.linger_ticks)

    def close(self) -> None:
        if self._intake.stage != TUNNEL:
            self._intake.leave(CLOSED)
            self.let_go()
            self._shared.wheel.arm(self._client, self._shared.flush_ticks)
        self._wire.transport.close()

    def abort(self) -> None:
        self.let_go()
        self._wire.transport.abort()

    def let_go(self) -> None:
        """Of everything that is kept for it, or looks after it."""
        self._service.let_go()
        self._share.charge(0)
        self._shared.parking.forget(self._client)
        self._shared.hangups.forget(self._wire)
