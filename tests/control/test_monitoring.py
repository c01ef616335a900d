"""The dashboard and the alert rules: well-formed, and about metrics that exist."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.control.test_metrics import scrape, started
from tests.harness import ROOT
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

MONITORING = ROOT / "deploy" / "monitoring"
NAME = re.compile(r"\b(?:deferred_init|process)_[a-z_]+")


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return found


def test_alert_rules_are_whole() -> None:
    rules = alert_rules()
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert {"summary", "description"} <= set(rule["annotations"])


def test_panels_do_not_overlap_and_ask_for_something() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells
        assert panel["targets"], panel["title"]


async def test_only_metrics_that_exist_are_named(serve: Serve, tmp_path: Path) -> None:
    proxy = await started(serve, tmp_path)
    assert await proxy.init({}) == (200, READY)
    exist = {name for name, _labels in await scrape(tmp_path)}
    # An upstream that has never died has no exit code to show yet.
    exist.add("deferred_init_upstream_exits_total")
    for rule in alert_rules():
        assert set(NAME.findall(rule["expr"])) - {"deferred_init_state"} <= exist
    for panel in panels():
        for target in panel["targets"]:
            named = set(NAME.findall(target["expr"])) - {"deferred_init_state"}
            assert named <= exist, panel["title"]
    assert "deferred_init_state" in exist
