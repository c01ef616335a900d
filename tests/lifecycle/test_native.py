"""What an upstream's own init is told, and when there is no word for it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.plan import Plan, build_plan, dormant_plan
from proxy.settings import UpstreamSettings


def plan(body: dict[str, Any], **upstream: Any) -> Plan:
    settings = UpstreamSettings.model_validate({"dormancy": "auto"} | upstream)
    return build_plan(settings, InitRequest.model_validate(body), run_dir="/run/x")


def passed_on(body: dict[str, Any], **upstream: Any) -> dict[str, Any]:
    made = plan(body, **upstream)
    assert made.fresh is None
    told: dict[str, Any] = json.loads(made.request)
    return told


def test_every_field_is_passed_on_with_the_variables_of_a_cold_start() -> None:
    body = {
        "session_api_keys": ["s-1", "s-2"],
        "conversations_path": "/mnt/c",
        "max_concurrent_runs": 2,
        "env": {"LLM_API_KEY": "sk"},
    }
    told = passed_on(body)
    made = plan(body)
    assert told["env"] == made.env | {"OH_DEFERRED_INIT": ""}
    del told["env"], body["env"]
    assert told == body | {"secret_key": "s-1"}


@pytest.mark.parametrize(
    ("body", "env", "secret"),
    [
        ({"secret_key": "k"}, {}, "k"),
        ({"session_api_keys": ["s"]}, {}, "s"),
        ({"session_api_keys": ["s"]}, {"OH_SECRET_KEY": "deployed"}, "deployed"),
        ({}, {"OH_SECRET_KEY": "deployed"}, "deployed"),
        ({"env": {"OH_SECRET_KEY": "by-name"}}, {"OH_SECRET_KEY": "deployed"}, "by-name"),
    ],
)
def test_the_secret_key_is_always_said(
    body: dict[str, Any], env: dict[str, str], secret: str
) -> None:
    told = passed_on(body, env=env)
    assert told["secret_key"] == told["env"]["OH_SECRET_KEY"] == secret


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "no secret_key follows from it, and its own init has no word for that"),
        ({"env": {"OH_SECRET_KEY": " "}}, "no secret_key follows from it"),
        ({"secret_key": "k", "env": {"LOG_LEVEL": "DEBUG"}}, "LOG_LEVEL is read before an init"),
        ({"secret_key": "k", "env": {"OH_X": ""}}, "OH_X is read before an init of its own"),
    ],
)
def test_what_has_no_word_is_told(body: dict[str, Any], why: str) -> None:
    made = plan(body)
    assert made.request == b""
    assert made.fresh is not None
    assert why in made.fresh


@pytest.mark.parametrize("dormancy", ["preload", "cold"])
def test_nothing_is_passed_on_to_an_upstream_that_waits_otherwise(dormancy: str) -> None:
    made = plan({"secret_key": "k"}, dormancy=dormancy)
    assert (made.request, made.fresh) == (b"", None)


def test_a_dormant_upstream_is_started_as_for_an_empty_request_but_for_switch_and_key() -> None:
    settings = UpstreamSettings.model_validate(
        {"dormancy": "auto", "env": {"OH_SECRET_KEY": "deployed", "A": "b"}}
    )
    assert settings.native is not None
    made = dormant_plan(settings, settings.native, "fresh-key", run_dir="/run/x")
    empty = plan({}, env={"OH_SECRET_KEY": "deployed", "A": "b"})
    assert made.env == empty.env | {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": "fresh-key"}
    assert (made.argv, made.base_env, made.base_unset, made.unset, made.files) == (
        *(empty.argv, empty.base_env, empty.base_unset, empty.unset, empty.files),
    )
    assert made.secrets == {"fresh-key"}
    assert "fresh-key" not in repr(made)
