"""Counting requests for the metrics: plain integers in lists of a fixed size.

What a client can choose does not grow it: methods are a fixed set and "other", statuses classes.
"""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.relay.exchange.conversation import SWITCHING, UPSTREAM

if TYPE_CHECKING:
    from collections.abc import Iterator

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other")
_OTHER: Final = len(METHODS) - 1
_KINDS: Final = {name.encode(): kind for kind, name in enumerate(METHODS[:_OTHER])}

SOURCES: Final = ("upstream", "control", "proxy")  # by who answered

# By the first digit of a status. An upstream may send statuses that HTTP has no class for.
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx", "other", "other", "other", "other")

# Seconds. From an answer out of memory to an agent's long run.
BOUNDS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
)  # fmt: skip
_BUCKETS: Final = len(BOUNDS) + 1  # and one for what is above all bounds


class Times(NamedTuple):
    """A histogram: how many took at most each of `BOUNDS`, then all; and the sum in seconds."""

    buckets: list[tuple[str, float]]
    total: float


class Tally:
    """All requests by who answered, method and status; times of those the upstream answered.

    Counting is part of every request, so it is one cell of one table for most of them: an answer
    that comes as a whole ends in the bucket in which it began, and only others are noted apart.
    """

    def __init__(self) -> None:
        # [source][method][first digit of the status x bucket of the first byte]
        self._cells = [[[0] * (10 * _BUCKETS) for _ in METHODS] for _ in SOURCES]
        self._seconds = [0.0 for _ in SOURCES]  # to the first byte
        self._later = [0] * _BUCKETS  # what is more, or less, in a bucket at the end
        self._later_seconds = 0.0
        self.cut = dict.fromkeys(("client", "upstream", "timeout", "limit", "shutdown"), 0)

    def count(self, source: int, method: bytes, status: int, first: float, end: float) -> None:
        """A request is over: seconds to the first byte, and to the end; `status` 0: no answer."""
        if not status:
            first = end = 0.0
        bucket = bisect_left(BOUNDS, first)
        self._cells[source][_KINDS.get(method, _OTHER)][status // 100 * _BUCKETS + bucket] += 1
        self._seconds[source] += first
        if end != first:
            self._later[bucket] -= 1
            self._later[bisect_left(BOUNDS, end)] += 1
            self._later_seconds += end - first

    def count_tunnel(self, method: bytes, first: float) -> None:
        """The upstream has switched protocols; how long that lasts is no answer's time."""
        self.count(UPSTREAM, method, SWITCHING, first, first)
        self._later[bisect_left(BOUNDS, first)] -= 1
        self._later_seconds -= first

    @property
    def first_byte(self) -> Times:
        """Of the upstream's answers, to their first byte."""
        return _times(self._first_bytes(), self._seconds[UPSTREAM])

    @property
    def end(self) -> Times:
        """Of the upstream's answers but tunnels, to their end."""
        counts = [
            first + later for first, later in zip(self._first_bytes(), self._later, strict=True)
        ]
        return _times(counts, self._seconds[UPSTREAM] + self._later_seconds)

    def _first_bytes(self) -> list[int]:
        answered = [cells[_BUCKETS:] for cells in self._cells[UPSTREAM]]  # digit 0: without one
        return [
            sum(sum(cells[bucket::_BUCKETS]) for cells in answered) for bucket in range(_BUCKETS)
        ]

    def requests(self) -> Iterator[tuple[str, str, str, int]]:
        """Source, method, class of the status, and how many; for methods that were used."""
        for source, methods in zip(SOURCES, self._cells, strict=True):
            for method, cells in zip(METHODS, methods, strict=True):
                if any(cells):
                    classes = dict.fromkeys(_CLASSES, 0)
                    for digit, name in enumerate(_CLASSES):
                        classes[name] += sum(cells[digit * _BUCKETS : (digit + 1) * _BUCKETS])
                    for name, count in classes.items():
                        yield source, method, name, count


def _times(counts: list[int], seconds: float) -> Times:
    bounds = [*map(str, BOUNDS), "+Inf"]
    return Times(list(zip(bounds, accumulate(counts), strict=True)), seconds)
