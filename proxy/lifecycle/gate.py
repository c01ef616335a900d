"""The gate: who may answer a request, from the state and the exact bytes of its head.

Pure. Nothing is decoded or normalised: a path is one of the proxy's own only when its bytes are
exactly that, so there is no second reading of a target that could differ from the upstream's.
"""

from __future__ import annotations

import enum
from typing import Final

from proxy.lifecycle.state import State


def control_paths(prefix: str = "") -> frozenset[bytes]:
    """The proxy's own, where they begin with `prefix`."""
    return frozenset((prefix + path).encode() for path in ("/api/init", "/health", "/ready"))


CONTROL_PATHS: Final = control_paths()


class Verdict(enum.Enum):
    CONTROL = "control"  # the control plane answers
    RELAY = "relay"  # goes to the upstream
    HOLD = "hold"  # parked until the state has changed, or for so long
    UNAUTHORIZED = "unauthorized"  # 401: no session key
    REFUSE = "refuse"  # 503, may come back
    CLOSE = "close"  # 503, and the connection ends: shutting down
    CROWDED = "crowded"  # the same: too many connections


# For the upstream that is there, or on its way.
FOR_UPSTREAM: Final = frozenset({Verdict.RELAY, Verdict.HOLD})

# Every request is judged, and a member looked up in its class costs more than all the rest.
_DRAINING: Final = State.DRAINING
_READY: Final = State.READY
_RELAY: Final = Verdict.RELAY


def decide(
    state: State,
    target: bytes,
    open_paths: frozenset[bytes] = frozenset(),
    *,
    own_paths: frozenset[bytes] = CONTROL_PATHS,
    hold: bool = False,
) -> Verdict:
    """Judge one request by its raw target (`/path?query`, as on the request line).

    `open_paths` are raw paths that are relayed in every state but draining, `own_paths` are
    answered by the proxy. With `hold`, what comes while an upstream is on its way waits for it.
    """
    path = target.partition(b"?")[0]
    if path in own_paths:
        return Verdict.CONTROL
    if state is _DRAINING:
        return Verdict.CLOSE
    if state is _READY or path in open_paths:
        return _RELAY
    return Verdict.HOLD if hold and state is State.INITIALIZING else Verdict.REFUSE
