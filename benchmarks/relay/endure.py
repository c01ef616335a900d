"""What only time shows: memory over a million requests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.relay import load

if TYPE_CHECKING:
    from benchmarks.relay.contenders import Running

MILLION: Final = 1_000_000


def growth(running: Running, port: int, core: int) -> float:
    """Bytes that the proxy's memory grew by over a million requests, after as many as warm it."""
    rate = load.small(port, 32, 3, core).rate
    before = running.memory()
    load.small(port, 32, MILLION / rate, core)
    return running.memory() - before
