"""The data plane: bytes between clients and the upstream (or the control plane)."""

from __future__ import annotations

from proxy.relay.refusals import Refusal
from proxy.relay.relay import Relay

__all__ = ["Refusal", "Relay"]
