"""What all connections of a relay have in common."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from proxy.relay.ends.dialling import Dialler
from proxy.relay.ends.wire import LOOKS
from proxy.relay.exchange.refusals import REASONS, plain_refusal
from proxy.relay.http.forwarding import Peers
from proxy.relay.http.limits import FLUSH_SECONDS, HANGUP_SECONDS, LINGER_SECONDS
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import ResponseReader
from proxy.relay.patience.budget import Budget
from proxy.relay.patience.hangups import Hangups
from proxy.relay.patience.parking import Parking
from proxy.relay.patience.wheel import NEVER, Wheel
from proxy.relay.telling.record import Telling

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.lifecycle.gate import Verdict
    from proxy.relay.exchange.refusals import Refusal
    from proxy.relay.http.forwarding import Network
    from proxy.relay.http.head import RequestHead
    from proxy.relay.http.limits import Limits
    from proxy.relay.telling.accesslog import AccessLog
    from proxy.relay.telling.tally import Tally
    from proxy.settings import TcpAddress, UnixAddress


class Shared:
    """Whom they ask, who looks after them, and what they count.

    `gate(method, target)` judges every request when its head is complete. `dial` is where the
    upstream listens; `control(sock)` gives one end of a socket pair to the control plane.
    `refuse(verdict, head)` words a refusal, `headers(head)` go with whatever the relay answers.
    `admits(head)` says whether a request for the upstream may be made by whoever makes it;
    `strip_session_keys`: the header of that kind ends here.
    `places` are kept beyond the limit of connections for the control paths.
    `hold` is how many seconds a request waits that the gate wants to be held. Peers in
    `trusted_proxies` may say who their client is; those on a Unix socket only with `trust_unix`.
    `forwarded`: the upstream is told of the client in that field as well.
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
        forwarded: bool = False,
        headers: Callable[[RequestHead], tuple[tuple[str, str], ...]] = lambda _head: (),
        places: int = 64,
        hold: float = 0,
        admits: Callable[[RequestHead], bool] | None = None,
        strip_session_keys: bool = False,
        tally: Tally | None = None,
        access: AccessLog | None = None,
    ) -> None:
        self.gate = gate
        self.refuse = refuse
        self.admits = admits
        self.most = limits.connections
        self.places = places
        self.headers = headers
        self.peers = Peers(trusted_proxies, trust_unix=trust_unix, forwarded=forwarded)
        self.telling = Telling(tally, access)
        self.heads = HeadReader(limits, strip_session_keys=strip_session_keys)
        self.responses = ResponseReader(limits.head_size)
        self.loop = loop = asyncio.get_running_loop()
        # Late by at most a fifth of the shortest timeout, and never woken more than twice a second
        # for the sake of the usual ones.
        look = (limits.tunnel_idle or 0) / LOOKS
        timeouts = limits.head_timeout, limits.idle_timeout, limits.connect_timeout
        shortest = min(*timeouts, look or math.inf)
        self.wheel = wheel = Wheel(loop, min(0.5, shortest / 5))
        self.head_ticks = wheel.ticks(limits.head_timeout)
        self.idle_ticks = wheel.ticks(limits.idle_timeout)
        self.tunnel_ticks = wheel.ticks(look) if look else NEVER
        self.linger_ticks = wheel.ticks(LINGER_SECONDS)
        self.flush_ticks = wheel.ticks(FLUSH_SECONDS)
        self.answers_half_closed = halves = limits.half_close == "answer"
        self.hangups = Hangups(loop, min(HANGUP_SECONDS, limits.idle_timeout), halves=halves)
        self.dialler = Dialler(loop, wheel, limits, dial, control)
        self.parking = Parking(loop, hold, self.dialler.under_way)
        self.budget = Budget()
        self.draining = False
        self.requests = self.tunnels = 0
        self.refusals = dict.fromkeys(REASONS, 0)

    def forget(self) -> None:
        """Keep nothing of what was read: heads have the keys and cookies of their user."""
        self.heads.known.clear()
        self.responses.known.clear()

    def close(self) -> None:
        self.dialler.close()
        self.parking.close()
        self.hangups.close()
        self.wheel.close()
