"""Results: medians, ratios to nginx and the bars, as a table, JSON and a chart."""

from __future__ import annotations

import json
import platform
import statistics
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


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

    def ratio(self, contender: str, to: str) -> float | None:
        """Median of the ratios within each round, as rounds share their disturbances."""
        mine, theirs = self.samples.get(contender), self.samples.get(to)
        if not mine or not theirs:
            return None
        return statistics.median(a / b for a, b in zip(mine, theirs, strict=False) if b)


@dataclass(frozen=True)
class Bar:
    measure: str
    to: str
    factor: float

    def judge(self, measures: dict[str, Measure]) -> str:
        measure = measures.get(self.measure)
        ratio = measure.ratio("ours", self.to) if measure else None
        if measure is None or ratio is None:
            return f"not measured  {self.measure}: ours against {self.to}"
        met = ratio >= self.factor if measure.higher else ratio <= self.factor
        sign = ">=" if measure.higher else "<="
        verdict = "ok    " if met else "MISSED"
        return f"{verdict}  {self.measure}: {ratio:.2f} x {self.to} ({sign} {self.factor:g})"


BARS = [
    Bar("small requests, 32 connections", "nginx", 0.9),
    Bar("small requests, 32 connections", "envoy", 1.5),
    Bar("small requests, 32 connections", "aiohttp", 6),
    Bar("median latency, 1 connection", "nginx", 1.05),
    Bar("99th percentile, 256 connections", "haproxy", 1.5),
    Bar("100 MiB down", "haproxy", 0.9),
    Bar("100 MiB up", "haproxy", 0.9),
    Bar("WebSocket echo of 1 MiB", "haproxy", 0.9),
]


def _shown(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(measures: list[Measure], names: list[str]) -> str:
    head = f"{'':38}{'unit':>9}" + "".join(f"{name:>11}" for name in names)
    lines = [head, "-" * len(head)]
    for measure in measures:
        cells = "".join(f"{_shown(measure.median(name)):>11}" for name in names)
        lines.append(f"{measure.name:38}{measure.unit:>9}{cells}")
        ratios = [measure.ratio(name, "nginx") for name in names]
        if any(ratios):
            cells = "".join(f"{f'{r:.2f}' if r else '-':>11}" for r in ratios)
            lines.append(f"{'':38}{'x nginx':>9}{cells}")
    faults = sorted({f"{m.name}: {n}: {why}" for m in measures for n, why in m.faults.items()})
    return "\n".join([*lines, "", *(f"not measured: {fault}" for fault in faults)])


def as_json(measures: list[Measure], setup: dict[str, object]) -> str:
    results = [
        {
            "name": m.name, "unit": m.unit, "higher_is_better": m.higher, "samples": m.samples,
            "medians": {name: m.median(name) for name in m.samples}, "faults": m.faults,
        }
        for m in measures
    ]  # fmt: skip
    machine = {"machine": platform.machine(), "kernel": platform.release(),
               "python": platform.python_version()}  # fmt: skip
    return json.dumps({"setup": machine | setup, "results": results}, indent=2)


def chart(measure: Measure, names: list[str], path: Path) -> None:
    """Horizontal bars, as an SVG that reads on light and dark pages."""
    values = [(name, measure.median(name) or 0.0) for name in names]
    values = sorted((pair for pair in values if pair[1]), key=lambda pair: -pair[1])
    if not values:
        return
    top = values[0][1]
    rows = []
    for row, (name, value) in enumerate(values):
        y = 34 + row * 26
        colour = "#d9480f" if name == "ours" else "#868e96"
        width = 420 * value / top
        rows.append(
            f'<text x="80" y="{y + 13}" text-anchor="end">{name}</text>'
            f'<rect x="90" y="{y}" width="{width:.0f}" height="18" rx="2" fill="{colour}"/>'
            f'<text x="{96 + width:.0f}" y="{y + 13}">{value:,.0f}</text>'
        )
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{44 + 26 * len(values)}" '
        'font-family="sans-serif" font-size="13" fill="#868e96">'
        f'<text x="10" y="20" font-weight="bold">{measure.name}, {measure.unit}</text>'
        + "".join(rows)
        + "</svg>\n"
    )
