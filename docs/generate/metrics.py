"""`metrics.md`: what `/metrics` tells, read off a collector that has seen one of each."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Final, cast

from docs.generate.markdown import GENERATED, table
from proxy.control.metrics import Metrics, Traffic
from proxy.lifecycle.state import Event, Lifecycle
from proxy.relay.exchange.refusals import BAD_REQUEST, ERROR_REASONS, GATE_REASONS
from proxy.relay.telling.tally import METHODS, SOURCES, Tally

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

_HEAD: Final = """# Metrics

`GET /metrics` of the admin listener (`listen.admin`), in the format that the scraper asks for. What
to watch, with a dashboard and alerts, is in [Operate](../how-to/operate.md). No label has a value
that a client can choose: methods and statuses are of a few classes.
"""
# Every event that a metric counts.
_LIFE: Final = (
    Event.INIT_ACCEPTED,
    Event.UPSTREAM_READY,
    Event.UPSTREAM_DIED,
    Event.RETRIED,
    Event.UPSTREAM_READY,
)
# What says how a value is made, not what it is of.
_TECHNICAL: Final = frozenset({"le"})


def page() -> str:
    rows = [
        (f"`{_exposed(metric)}`", metric.type, _labels(metric), metric.documentation)
        for metric in sorted(_collected(), key=lambda metric: metric.name)
    ]
    return GENERATED + _HEAD + "\n" + table(["name", "type", "labels", "meaning"], rows)


def _collected() -> Iterator[Metric]:
    lifecycle = Lifecycle()
    reasons = {*GATE_REASONS.values(), *ERROR_REASONS.values(), BAD_REQUEST}
    traffic = SimpleNamespace(
        connections=0, tunnels=0, refusals=dict.fromkeys(sorted(reasons), 0),
        bytes_in=0, bytes_out=0, held_requests=0, kept_bytes=0, open_connections=0,
        crowd=SimpleNamespace(most=0, late=0),
    )  # fmt: skip
    timings = {"start": 0.1, "probe": 0.1, "total": 0.2}
    metrics = Metrics(
        lifecycle=lifecycle,
        traffic=cast("Traffic", traffic),
        tally=_tally(),
        details=lambda: {"timings": timings, "start": {"kind": "warm"}},
        exit_code=lambda: 0,
        preload=lambda: (0, 0),
        build={"version": "", "python": ""},
    )
    for event in _LIFE:
        lifecycle.apply(event)
    yield from metrics.registry.collect()


def _tally() -> Tally:
    """One request of each kind, so that every value of the labels is there to be seen."""
    tally = Tally()
    for source in range(len(SOURCES)):
        for method in METHODS:
            tally.count(source, method.encode(), 200, 0.0, 0.0)
    return tally


def _exposed(metric: Metric) -> str:
    return metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")


def _labels(metric: Metric) -> str:
    found: dict[str, dict[str, None]] = {}
    for sample in metric.samples:
        for name, value in sample.labels.items():
            if name not in _TECHNICAL:
                found.setdefault(name, {})[value] = None
    return ", ".join(_label(name, list(values)) for name, values in found.items())


def _label(name: str, values: list[str]) -> str:
    # Where there is more than one value it is because all of them are always there.
    return f"`{name}`" + (f" ({', '.join(values)})" if len(values) > 1 else "")
