"""What the documents tell of a run: `python -m benchmarks.relay.publish FILE`.

FILE is what a run has written with `--json`. The chart is written beside it, with the suffix .svg;
the table of docs/explanation/relay.md and the README's lines are printed. A test holds both to what
is committed.
"""

from __future__ import annotations

import html
import sys
from pathlib import Path
from typing import Final

from benchmarks.relay.report import Measure, Report, ratio

NAMES: Final = {
    "nginx": "nginx",
    "haproxy": "HAProxy",
    "envoy": "Envoy",
    "caddy": "Caddy",
    "aiohttp": "aiohttp",
    "ours": "this proxy",
}
CHARTED: Final = "small requests, 32 connections"

# Of the measures, what the documents tell: how they call them, and units of what they show.
ROWS: Final = (
    ("small requests, 32 connections", "requests/s, 32 connections", 1.0),
    ("processor of a request, 32 connections", "processor per request, µs", 1.0),
    ("median latency, 1 connection", "median latency, 1 connection, µs", 1.0),
    ("99th percentile, 256 connections", "99th percentile, 256 connections, ms", 1e-3),
    ("a connection per request, 32 at a time", "requests/s, a connection each", 1.0),
    ("100 MiB down", "100 MiB down, MB/s", 1.0),
    ("100 MiB up", "100 MiB up, MB/s", 1.0),
    ("WebSocket echo, 32 connections", "WebSocket echoes/s, 32 connections", 1.0),
    ("WebSocket echo of 1 MiB", "WebSocket echoes/s, 1 MiB", 1.0),
    ("events to 100 clients, p99 delay", "10,000 events/s to 100 clients, p99 delay, ms", 1.0),
    ("memory of each of 2000 idle WebSockets", "memory per idle WebSocket, KiB", 1.0),
    ("99th percentile beside slow head", "99th percentile beside 2,000 slow heads, ms", 1e-3),
    ("99th percentile beside slow body", "the same beside slow bodies, ms", 1e-3),
    ("99th percentile beside slow reader", "the same beside slow readers, ms", 1e-3),
    ("memory of each slow head", "memory per slow head, KiB", 1.0),
    ("memory of each slow reader", "memory per slow reader, KiB", 1.0),
    ("memory, idle", "memory, idle, MB", 1.0),
    ("start", "start, s", 1.0),
)

# What the README claims: the measure, how it is called there, and beside whom.
CLAIMS: Final = (
    (
        "small requests, 32 connections",
        "small requests a second, 32 connections",
        ("nginx", "haproxy", "envoy", "aiohttp"),
    ),
    ("processor of a request, 32 connections", "its processor time, µs", ("nginx", "envoy")),
    ("100 MiB down", "100 MiB down, MB/s", ("nginx", "envoy")),
    (
        "a connection per request, 32 at a time",
        "requests a second, a connection each",
        ("nginx", "envoy"),
    ),
    ("memory, idle", "its own memory, MB", ("nginx", "envoy")),
)

STYLE: Final = (
    "text{font:13px system-ui,sans-serif;fill:#1f2328}.of{fill:#59636e}rect{fill:#8c959f}"
    ".ours{fill:#0969da}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.of{fill:#9198a1}"
    "rect{fill:#6e7681}.ours{fill:#4493f8}}"
)
TOP, ROW, BAR, LEFT, WIDTH, SPAN = 34, 26, 18, 84, 400, 560  # pixels


def chart(report: Report) -> str:
    """Small requests as horizontal bars: an SVG for light and dark pages."""
    measure = report.measures[CHARTED]
    values = {shown: measure.median(name) for name, shown in NAMES.items()}
    known = sorted(((v, shown) for shown, v in values.items() if v), reverse=True)
    most = known[0][0]
    rows = []
    for number, (value, shown) in enumerate(known):
        y = TOP + number * ROW
        width = WIDTH * value / most
        ours = ' class="ours"' if shown == NAMES["ours"] else ""
        rows += [
            f'<text x="{LEFT - 8}" y="{y + 14}" text-anchor="end">{html.escape(shown)}</text>',
            f'<rect{ours} x="{LEFT}" y="{y}" width="{width:.0f}" height="{BAR}" rx="2"/>',
            f'<text class="of" x="{LEFT + width + 6:.0f}" y="{y + 14}">{value:,.0f}</text>',
        ]
    title = "Small requests relayed per second"
    told = ", ".join(f"{shown} {value:,.0f}" for value, shown in known)
    height = TOP + len(known) * ROW + 2
    size = f'viewBox="0 0 {SPAN} {height}" width="{SPAN}" height="{height}"'
    named = 'role="img" aria-labelledby="title desc"'
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {named}>',
        f'<title id="title">{title}</title>',
        f'<desc id="desc">32 connections, one core for the proxy: {told}.</desc>',
        f"<style>{STYLE}</style>",
        f'<text x="{LEFT}" y="18">{title}</text>',
        *rows,
        "</svg>\n",
    ]
    return "\n".join(lines)


def table(report: Report) -> str:
    """Medians, as Markdown."""
    lines = ["| | " + " | ".join(NAMES.values()) + " |", "|---|" + "---:|" * len(NAMES)]
    for name, shown, factor in ROWS:
        measure = report.measures[name]
        cells = [_cell(measure.median(key), factor) for key in NAMES]
        lines.append(f"| {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def claims(report: Report) -> str:
    """Lines of the README's table: ours, and its ratios to others, taken within the rounds."""
    lines = []
    for name, shown, others in CLAIMS:
        measure = report.measures[name]
        against = ", ".join(
            f"{_ratio(measure, other)} × {NAMES[other]}"  # noqa: RUF001  typography
            for other in others
        )
        ours = _cell(measure.median("ours"), 1.0)
        lines.append(f"| {shown} | {ours} | {against} | `benchmarks.relay` |\n")
    return "".join(lines)


def _ratio(measure: Measure, other: str) -> str:
    value = ratio(measure.samples["ours"], measure.samples[other]) or 0.0
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _cell(value: float | None, factor: float) -> str:
    if value is None:
        return "–"  # noqa: RUF001  typography
    value *= factor
    if value >= 1000:
        return f"{float(f'{value:.3g}'):,.0f}"
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def main() -> None:
    path = Path(sys.argv[1])
    report = Report.read(path)
    path.with_suffix(".svg").write_text(chart(report))
    print(table(report))
    print(claims(report))


if __name__ == "__main__":
    main()
