"""Lets an upstream start without the interruptions of the cyclic garbage collector.

A start makes tens of thousands of objects that stay, and hardly any garbage; the collector goes
through them again and again, and through pages that would stay shared with the fork server. So its
first run in a forked child comes after `ALLOCATIONS` more containers have been made than let go,
and with that run everything is as it was. An upstream with a threshold of its own keeps that.
"""

from __future__ import annotations

import gc

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALLOCATIONS = 50_000  # the OpenHands agent server makes 45,000; with their contents 10 to 20 MB


def hold_off() -> None:
    """Put the collector's first run off."""
    before = gc.get_threshold()
    if not gc.isenabled() or not 0 < before[0] < ALLOCATIONS:
        return
    held = (ALLOCATIONS, *before[1:])

    def restore(_phase: str, _info: dict[str, Any]) -> None:
        if gc.get_threshold() == held:
            gc.set_threshold(*before)
        if gc.callbacks[-1] is restore:  # in the middle it would make the next one be passed over
            gc.callbacks.pop()

    gc.set_threshold(*held)
    gc.callbacks.append(restore)
