"""The data plane: bytes between clients and the upstream (or the control plane).

Knows `lifecycle` and `errors`. Its rooms, from the lowest: `http` (the grammar), `exchange` (what
is decided, pure), `telling` (log and metrics), `patience` (timers), `ends` (sockets). Begin with
`relay`, the whole, or with `exchange/conversation`.
"""

from __future__ import annotations

from proxy.relay.ends.shared import Shared
from proxy.relay.exchange.refusals import Refusal
from proxy.relay.relay import Relay

__all__ = ["Refusal", "Relay", "Shared"]
