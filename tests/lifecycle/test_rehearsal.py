"""What is made up for a rehearsal is an init as any other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.rehearsal import made_up, rehearsal_plan
from proxy.settings import MappingSettings, UpstreamSettings

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan


def plan(mapping: dict[str, Any], **upstream: Any) -> Plan:
    described = MappingSettings.model_validate(mapping)
    settings = UpstreamSettings(profile="none", mapping=described, **upstream)
    return rehearsal_plan(settings, run_dir="/run/x")


def test_every_field_of_the_contract_can_be_made_up() -> None:
    settings = UpstreamSettings()  # whose profile maps all of them
    made = rehearsal_plan(settings, run_dir="/run/x")
    assert made.env["OH_MAX_CONCURRENT_RUNS"] == "1"
    assert set(made_up(InitRequest.model_fields, {}, (), "/d")) == set(InitRequest.model_fields)


@pytest.mark.parametrize("kind", ["string", "list", "secret", "path", "integer"])
def test_every_type_can_be_made_up(kind: str) -> None:
    field = {"type": kind, "env": "X", "encode": "json", "required": True}
    assert plan({"fields": {"x": field}}).env["X"]


def test_what_templates_need_is_made_up() -> None:
    made = plan({"variables": {"URL": "x://{env.SECRET}@h"}}, command=("run", "{env.OTHER}"))
    assert made.env["URL"].startswith("x://rehearsal-")
    assert made.argv[1].startswith("rehearsal-")


def test_nothing_is_made_up_twice_and_paths_are_in_the_run_directory() -> None:
    mapping = {"fields": {"x": {"type": "secret", "env": "X"}, "conversations_path": {"env": "P"}}}
    first, second = plan(mapping), plan(mapping)
    assert first.env["X"] != second.env["X"]
    assert first.env["P"].startswith("/run/x/")
    assert first.run_dir == "/run/x"
