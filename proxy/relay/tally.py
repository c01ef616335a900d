"""Counting requests for the metrics: plain integers in lists, a few hundred bytes in all.

What a client can choose does not grow it: methods are a fixed set and "other", statuses classes.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
OTHER: Final = len(METHODS) - 1
_KINDS: Final = {name.encode(): kind for kind, name in enumerate(METHODS[:OTHER])}

# Who answered; the proxy itself with a refusal or an error.
SOURCES: Final = ("upstream", "control", "proxy")
UPSTREAM, CONTROL, PROXY = range(3)

# By the first digit of a status. An upstream may send statuses that HTTP has no class for.
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "other", "other", "other", "other")
_SPAN: Final = len(_CLASSES)
SWITCHING: Final = 101

# Seconds. From an answer out of memory to an agent's long run.
BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip


def kind_of(method: bytes) -> int:
    """The index of `method` in `METHODS`."""
    return _KINDS.get(method, OTHER)


class Times:
    """A histogram: `counts` by the first of `BOUNDS` that is not below, the last over them all."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Upper bounds and how many were not above, as Prometheus has them."""
        found: list[tuple[str, float]] = []
        below = 0
        for bound, count in zip((*BOUNDS, "+Inf"), self.counts, strict=True):
            below += count
            found.append((str(bound), below))
        return found


class Tally:
    """All requests by who answered, method and status; times of those the upstream answered."""

    def __init__(self) -> None:
        self._requests = [0] * (len(SOURCES) * len(METHODS) * _SPAN)
        self.first_byte = Times()
        self.end = Times()
        self.cut = dict.fromkeys(("client", "upstream", "timeout", "shutdown"), 0)

    def count(self, source: int, kind: int, status: int, first: float, end: float) -> None:
        """A request is over, `status` 0 without an answer. A tunnel counts when it opens."""
        self._requests[(source * len(METHODS) + kind) * _SPAN + status // 100] += 1
        if source == UPSTREAM and status:
            self.first_byte.add(first)
            if status != SWITCHING:
                self.end.add(end)

    def requests(self) -> Iterator[tuple[str, str, str, int]]:
        """Source, method, class of the status, and how many; for methods that were used."""
        for source, answered_by in enumerate(SOURCES):
            for kind, method in enumerate(METHODS):
                start = (source * len(METHODS) + kind) * _SPAN
                row = self._requests[start : start + _SPAN]
                if any(row):
                    classes = dict.fromkeys(_CLASSES, 0)
                    for name, count in zip(_CLASSES, row, strict=True):
                        classes[name] += count
                    for name, count in classes.items():
                        yield answered_by, method, name, count
