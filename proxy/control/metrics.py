"""Numbers for Prometheus: what the life cycle did, and what passes through the relay.

Everything is counted where it happens anyway (the life cycle's changes, the activation's
timings, the relay's plain integers) and put into Prometheus' form when somebody asks, so that the
relay pays nothing for being watched. No label has a value that a client can choose.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from aiohttp import web
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    StateSetMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from prometheus_client.metrics_core import Metric

    from proxy.lifecycle.state import Lifecycle

_PREFIX: Final = "deferred_init"
# Seconds. From a fork (hundredths) to a cold start on a busy node.
_PHASES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.35, 0.5, 1, 2.5, 5, 10, 20, 40, 60)
# Seconds. From a pool that is too small to one that is never used up.
_DORMANT: Final = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Crowd(Protocol):
    """The limit of connections, and how many came over it."""

    most: int
    late: int


class Traffic(Protocol):
    """The relay's counters: totals since the start, and what is open at the moment."""

    connections: int
    refusals: dict[str, int]

    @property
    def tunnels(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...
    @property
    def held_requests(self) -> int: ...
    @property
    def kept_bytes(self) -> int: ...
    @property
    def open_connections(self) -> int: ...
    @property
    def crowd(self) -> Crowd: ...


class Times(Protocol):
    """A histogram: cumulative counts by upper bound, and the sum in seconds."""

    @property
    def buckets(self) -> list[tuple[str, float]]: ...
    @property
    def total(self) -> float: ...


class Tally(Protocol):
    """The relay's requests: by source, method and class of the status; and how long they took."""

    cut: dict[str, int]

    @property
    def first_byte(self) -> Times: ...
    @property
    def end(self) -> Times: ...

    def requests(self) -> Iterator[tuple[str, str, str, int]]: ...


class Metrics:
    """Listens to the life cycle and collects from the relay.

    `details` is what `GET /api/init?details=true` adds; `exit_code` the upstream's last one;
    `preload` how many modules are imported, of how many.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        traffic: Traffic,
        tally: Tally,
        details: Callable[[], Mapping[str, Any]],
        exit_code: Callable[[], int | None],
        preload: Callable[[], tuple[int, int]],
        build: Mapping[str, str],
    ) -> None:
        self._lifecycle = lifecycle
        self._traffic = traffic
        self._tally = tally
        self._details = details
        self._exit_code = exit_code
        self._preload = preload
        self._build = dict(build)
        self._dormant_since = time.monotonic()
        self._last: Event | None = None
        self.registry = CollectorRegistry()
        self._activations = Counter(
            f"{_PREFIX}_activations",
            "Activations that ended, by outcome and how the upstream was started.",
            ["outcome", "start"],
            registry=self.registry,
        )
        self._phases = Histogram(
            f"{_PREFIX}_activation_phase_seconds",
            "Time of an activation's phases: start (files and process), probe, and total.",
            ["phase"],
            buckets=_PHASES,
            registry=self.registry,
        )
        self._dormant = Histogram(
            f"{_PREFIX}_dormant_seconds",
            "Time spent dormant before an init was accepted.",
            buckets=_DORMANT,
            registry=self.registry,
        )
        self._exits = Counter(
            f"{_PREFIX}_upstream_exits",
            "Ends of a ready upstream that nobody asked for, by exit code (128 + n on signal n).",
            ["code"],
            registry=self.registry,
        )
        self._restarts = Counter(
            f"{_PREFIX}_upstream_restarts",
            "Attempts to start an upstream again that had died.",
            registry=self.registry,
        )
        self.registry.register(self)
        PlatformCollector(registry=self.registry)
        ProcessCollector(registry=self.registry)
        lifecycle.subscribe(self._changed)

    def _changed(self, state: State, event: Event) -> None:
        if event is Event.INIT_ACCEPTED:
            self._dormant.observe(time.monotonic() - self._dormant_since)
        elif event is Event.UPSTREAM_READY:
            self._ended("ready")
            for phase, seconds in self._details()["timings"].items():
                self._phases.labels(phase).observe(seconds)
        elif event is Event.RETRIED:
            self._restarts.inc()
        elif event is Event.UPSTREAM_DIED:
            self._exits.labels(str(self._exit_code())).inc()
        elif event is Event.INIT_FAILED and self._last is not Event.UPSTREAM_DIED:
            self._ended("failed")  # else it is `on_exit: dormant`, after an activation that held
        self._last = event
        if state is State.DORMANT:
            self._dormant_since = time.monotonic()

    def _ended(self, outcome: str) -> None:
        start = self._details()["start"]
        self._activations.labels(outcome, start["kind"] if start else "none").inc()

    def collect(self) -> Iterator[Metric]:
        """What has a value at every moment; called by the registry."""
        state = self._lifecycle.state
        yield InfoMetricFamily(f"{_PREFIX}_build", "This build.", value=self._build)
        yield StateSetMetricFamily(
            f"{_PREFIX}_state",
            "The state of the life cycle.",
            value={each.value: each is state for each in State},
        )
        done, total = self._preload()
        modules = GaugeMetricFamily(
            f"{_PREFIX}_preload_modules",
            "Modules of the preload: imported so far, and all.",
            labels=["which"],
        )
        modules.add_metric(["imported"], done)
        modules.add_metric(["all"], total)
        yield modules
        yield from self._relayed()

    def _relayed(self) -> Iterator[Metric]:
        traffic = self._traffic
        prefix = f"{_PREFIX}_relay"
        yield GaugeMetricFamily(
            f"{prefix}_open_connections",
            "Client connections at the moment.",
            value=traffic.open_connections,
        )
        yield GaugeMetricFamily(
            f"{prefix}_open_tunnels",
            "Upgraded connections at the moment.",
            value=traffic.tunnels,
        )
        yield GaugeMetricFamily(
            f"{prefix}_connection_limit",
            "Client connections that there may be: limits.connections, or what open files allow.",
            value=traffic.crowd.most,
        )
        yield CounterMetricFamily(
            f"{prefix}_connections", "Client connections accepted.", value=traffic.connections
        )
        yield CounterMetricFamily(
            f"{prefix}_late_connections",
            "Client connections accepted over the limit, for control paths only.",
            value=traffic.crowd.late,
        )
        size = CounterMetricFamily(
            f"{prefix}_bytes",
            "Bytes that came in from clients, and that went out to them.",
            labels=["direction"],
        )
        size.add_metric(["in"], traffic.bytes_in)
        size.add_metric(["out"], traffic.bytes_out)
        yield size
        yield GaugeMetricFamily(
            f"{prefix}_held_requests",
            "Requests that wait for the upstream to be ready, at the moment.",
            value=traffic.held_requests,
        )
        yield GaugeMetricFamily(
            f"{prefix}_kept_bytes",
            "Bytes of large heads, bodies and answers that are kept for clients, at the moment.",
            value=traffic.kept_bytes,
        )
        refusals = CounterMetricFamily(
            f"{prefix}_refusals",
            "Requests answered with an error by the relay itself, by reason.",
            labels=["reason"],
        )
        for reason, count in traffic.refusals.items():
            refusals.add_metric([reason], count)
        yield refusals
        yield from self._requests(prefix)

    def _requests(self, prefix: str) -> Iterator[Metric]:
        tally = self._tally
        requests = CounterMetricFamily(
            f"{prefix}_requests",
            "Requests that are over, by who answered, method, and class of the status.",
            labels=["source", "method", "status"],
        )
        for source, method, status, count in tally.requests():
            requests.add_metric([source, method, status], count)
        yield requests
        cut = CounterMetricFamily(
            f"{prefix}_cut_requests",
            "Requests that ended before their answer did, by who cut them off.",
            labels=["cause"],
        )
        for cause, count in tally.cut.items():
            cut.add_metric([cause], count)
        yield cut
        yield HistogramMetricFamily(
            f"{prefix}_first_byte_seconds",
            "Time from a request's head to its answer's, where the upstream answered.",
            buckets=tally.first_byte.buckets,
            sum_value=tally.first_byte.total,
        )
        yield HistogramMetricFamily(
            f"{prefix}_request_seconds",
            "Time from a request's head to the end of its answer, where the upstream answered.",
            buckets=tally.end.buckets,
            sum_value=tally.end.total,
        )

    async def answer(self, request: web.Request) -> web.Response:
        """`GET /metrics`, in the format that the scraper asks for."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encode(self.registry), headers={"Content-Type": content_type})
