"""The relay's benchmark: what it makes of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from benchmarks.relay.publish import chart, claims, table
from benchmarks.relay.report import Bar, Measure, Report
from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

COMMITTED = ROOT / "benchmarks" / "relay" / "results.json"


def measured(**samples: list[float]) -> Measure:
    return Measure("speed", "1/s", higher=True, samples=samples)


def test_a_bar_is_judged_by_the_ratios_within_the_rounds() -> None:
    measures = {"speed": measured(ours=[10.0, 50.0, 90.0], nginx=[10.0, 100.0, 100.0])}
    assert Bar("speed", 0.9, to="nginx").judge(measures).startswith("ok ")
    assert Bar("speed", 0.95, to="nginx").judge(measures).startswith("MISSED ")
    assert Bar("speed", 51).judge(measures).startswith("MISSED ")
    assert Bar("speed", 50).judge(measures).startswith("ok ")
    assert Bar("speed", 1, base="speed").judge(measures).startswith("ok ")
    assert Bar("speed", 1, to="envoy").judge(measures).startswith("not measured ")
    assert Bar("other", 1).judge(measures).startswith("not measured ")


def test_a_later_run_replaces_what_it_took_again(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Report({"speed": measured(ours=[1.0], nginx=[2.0])}, {"nginx": "1"}).write(path)
    failed = measured(ours=[3.0])
    failed.faults["nginx"] = "timed out"
    Report.read(path).updated(Report({"speed": failed}, {"nginx": "2"})).write(path)
    again = Report.read(path)
    assert again.measures["speed"].samples == {"ours": [3.0]}
    assert again.versions == {"nginx": "2"}
    assert "not measured: speed: nginx: timed out" in str(again)


def test_chart_and_documents_are_those_of_the_committed_results() -> None:
    report = Report.read(COMMITTED)
    drawn = chart(report)
    assert COMMITTED.with_suffix(".svg").read_text() == drawn
    ET.fromstring(drawn)
    assert table(report) in (ROOT / "docs" / "explanation" / "relay.md").read_text()
    assert claims(report) in (ROOT / "README.md").read_text()
