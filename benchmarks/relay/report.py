"""Results: medians, ratios and the bars, as a table and JSON.

`python -m benchmarks.relay.report FILE` prints what a run has written.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Self

from benchmarks.relay.slow import MODES

ORDER = ("direct", "nginx", "haproxy", "envoy", "caddy", "aiohttp", "ours")


@dataclass(eq=False)
class Measure:
    """One quantity of every contender; `samples` in `unit`, `faults` say why there are none."""

    name: str
    unit: str
    higher: bool  # is better
    samples: dict[str, list[float]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)

    def add(self, contender: str, value: float) -> None:
        self.samples.setdefault(contender, []).append(value)

    def median(self, contender: str) -> float | None:
        samples = self.samples.get(contender)
        return statistics.median(samples) if samples else None

    def update(self, newer: Measure) -> None:
        for name in newer.samples | newer.faults:
            self.samples.pop(name, None)
            self.faults.pop(name, None)
        self.samples |= newer.samples
        self.faults |= newer.faults


def ratio(mine: list[float] | None, theirs: list[float] | None) -> float | None:
    """Median of the ratios within each round, as rounds share their disturbances."""
    if not mine or not theirs:
        return None
    return statistics.median(a / b for a, b in zip(mine, theirs, strict=False) if b)


@dataclass(frozen=True)
class Bar:
    """What ours has to reach: `factor` times another proxy's (`to`), or times our own in another
    measure (`base`), or that many units.
    """

    measure: str
    factor: float
    to: str | None = None
    base: str | None = None

    def judge(self, measures: dict[str, Measure]) -> str:
        """The verdict as a line; begins with "MISSED" when it is."""
        measure = measures.get(self.measure)
        value, against = self._value(measures)
        if measure is None or value is None:
            return f"not measured  {self.measure}{against}"
        met = value >= self.factor if measure.higher else value <= self.factor
        sign = ">=" if measure.higher else "<="
        verdict = "ok    " if met else "MISSED"
        return f"{verdict}  {self.measure}: {value:.3g}{against} ({sign} {self.factor:g})"

    def _value(self, measures: dict[str, Measure]) -> tuple[float | None, str]:
        measure = measures.get(self.measure)
        ours = measure.samples.get("ours") if measure else None
        if self.to is not None:
            theirs = measure.samples.get(self.to) if measure else None
            return ratio(ours, theirs), f" x {self.to}"
        if self.base is not None:
            base = measures.get(self.base)
            return ratio(ours, base.samples.get("ours") if base else None), f" x {self.base}"
        return measure.median("ours") if measure else None, f" {measure.unit if measure else ''}"


BARS = [
    Bar("small requests, 32 connections", 0.9, to="nginx"),
    Bar("small requests, 1 connection", 0.95, to="nginx"),
    Bar("a connection per request, 32 at a time", 0.7, to="nginx"),
    Bar("small requests, 32 connections", 1.5, to="envoy"),
    Bar("small requests, 32 connections", 6, to="aiohttp"),
    Bar("median latency, 1 connection", 1.05, to="nginx"),
    Bar("99th percentile, 256 connections", 1.5, to="haproxy"),
    Bar("100 MiB down", 0.9, to="haproxy"),
    Bar("100 MiB up", 0.9, to="haproxy"),
    Bar("WebSocket echo of 1 MiB", 0.9, to="haproxy"),
    Bar("memory of each of 2000 idle WebSockets", 8),
    Bar("small requests beside them", 0.9, base="small requests before them"),
    Bar("memory grown by a million requests", 2),
    *(
        Bar(f"99th percentile beside {mode}", 3, base=f"99th percentile before {mode}")
        for mode in MODES
    ),
]


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@dataclass
class Report:
    """All measures of a run; `versions` of the programs compared."""

    measures: dict[str, Measure]
    versions: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> Self:
        data = json.loads(path.read_text())
        measures = {one["name"]: Measure(**one) for one in data["measures"]}
        return cls(measures, data["versions"])

    def updated(self, newer: Report) -> Report:
        """This one, and over it what `newer` has."""
        for name, measure in newer.measures.items():
            if name in self.measures:
                self.measures[name].update(measure)
            else:
                self.measures[name] = measure
        self.versions |= newer.versions
        return self

    def write(self, path: Path) -> None:
        kernel = platform.release().partition("-")[0]
        data = {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {kernel}",
            "versions": self.versions,
            "measures": [asdict(measure) for measure in self.measures.values()],
        }
        path.write_text(json.dumps(data, indent=1) + "\n")

    @property
    def verdicts(self) -> list[str]:
        return [bar.judge(self.measures) for bar in BARS]

    @property
    def missed(self) -> bool:
        return any(verdict.startswith("MISSED") for verdict in self.verdicts)

    def __str__(self) -> str:
        there = {name for measure in self.measures.values() for name in measure.samples}
        names = [name for name in ORDER if name in there]
        head = f"{'':42}{'unit':>5}" + "".join(f"{name:>10}" for name in names)
        lines = [head, "-" * len(head)]
        for measure in self.measures.values():
            cells = "".join(f"{_shown(measure.median(name)):>10}" for name in names)
            lines.append(f"{measure.name:42}{measure.unit:>5}{cells}")
            nginx = measure.samples.get("nginx")
            ratios = [ratio(measure.samples.get(name), nginx) for name in names]
            if any(ratios):
                cells = "".join(f"{f'{r:.2f}' if r else '-':>10}" for r in ratios)
                lines.append(f"{'':40}{'x nginx':>7}{cells}")
        faults = [
            f"not measured: {measure.name}: {name}: {why}"
            for measure in self.measures.values()
            for name, why in measure.faults.items()
        ]
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return "\n".join([*lines, "", *faults, *self.verdicts, versions])


if __name__ == "__main__":
    print(Report.read(Path(sys.argv[1])))
