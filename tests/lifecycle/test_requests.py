"""Requests that tell a running server what an init has brought."""

from __future__ import annotations

import json
from typing import Any

import pytest

from proxy.activation.launched.messages import start_fields, started_plan
from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import parse_init_request
from proxy.lifecycle.plan import Plan, build_plan
from proxy.lifecycle.told.standby import standby_plan, unlike
from proxy.settings import MappingSettings, StandbySettings, UpstreamSettings

FIELDS: dict[str, Any] = {
    "token": {"type": "secret"},
    "names": {"type": "list"},
    "depth": {"type": "integer", "env": "DEPTH"},
}


def upstream(*requests: dict[str, Any], **more: Any) -> UpstreamSettings:
    return UpstreamSettings(
        profile="none",
        mapping=MappingSettings.model_validate({"fields": FIELDS}),
        standby=StandbySettings.model_validate({"requests": requests}),
        **more,
    )


def plan(fields: dict[str, Any], *requests: dict[str, Any]) -> Plan:
    settings = upstream(*requests)
    request = parse_init_request(json.dumps(fields).encode(), settings.mapping.own_fields)
    return build_plan(settings, request, run_dir="/run/x")


def refused(fields: dict[str, Any], *requests: dict[str, Any]) -> str:
    with pytest.raises(InvalidFieldError) as caught:
        plan(fields, *requests)
    return str(caught.value).removeprefix("cannot accept the init request: ")


def test_values_are_written_as_each_place_needs_them() -> None:
    body = {"key": "{token}", "all": "{names}", "n": "{depth}", "text": "of {names}", "on": True}
    described = {"path": "/a/{token}?n={names}", "headers": {"X": "Bearer {token}"}, "body": body}
    made = plan({"token": 'a"/b', "names": ["x", "y"], "depth": 3}, described)
    (request,) = made.requests
    assert request.path == "/a/a%22%2Fb?n=x%2Cy"
    assert request.headers == {"X": 'Bearer a"/b', "Content-Type": "application/json"}
    assert json.loads(request.body or b"") == {
        "key": 'a"/b', "all": ["x", "y"], "n": 3, "text": "of x,y", "on": True,
    }  # fmt: skip
    assert made.env == {"DEPTH": "3"}
    assert made.untold
    assert 'a"/b' not in repr(request)


def test_a_body_of_text_is_sent_as_it_is() -> None:
    (request,) = plan({"token": "a&b"}, {"path": "/a", "body": "key={token}\n"}).requests
    assert (request.body, request.headers) == (b"key=a&b\n", {})


def test_a_content_type_of_ones_own_stays() -> None:
    described = {"path": "/a", "headers": {"content-type": "x/y"}, "body": {}}
    (request,) = plan({}, described).requests
    assert request.headers == {"content-type": "x/y"}


def test_a_request_for_which_nothing_came_is_left_out() -> None:
    always, default = {"path": "/always"}, {"path": "/{names:-none}"}
    some = {"path": "/{names:-none}/{token}"}
    assert [each.path for each in plan({}, always, some, default).requests] == ["/always", "/none"]
    assert [each.path for each in plan({"token": "t"}, some).requests] == ["/none/t"]


def test_half_of_what_a_request_tells_is_refused() -> None:
    described = {"path": "/{names[0]}/{token}"}
    assert refused({"names": ["a"]}, described) == "token: is needed by this upstream"


@pytest.mark.parametrize("value", [".", ".."])
def test_a_value_that_would_be_another_path_is_refused(value: str) -> None:
    assert refused({"token": value}, {"path": "/a/{token}"}).startswith("token: cannot be in a pa")


@pytest.mark.parametrize("value", ["a\r\nB: c", " secret", "é"])
def test_a_value_that_no_header_carries_is_refused(value: str) -> None:
    error = refused({"token": value}, {"path": "/a", "headers": {"X": "{token}"}})
    assert error == "token: cannot be in a header, as POST /a has it"


def test_what_a_request_tells_is_no_difference_and_anything_else_is() -> None:
    described = {"path": "/{token:-}", "body": "{env.LLM_API_KEY:-}"}
    running = standby_plan(upstream(described), run_dir="/run/x")
    assert (running.key, running.requests) == ("standby", ())
    told = plan({"token": "t", "env": {"LLM_API_KEY": "k"}}, described)
    assert unlike(running, told) is None
    assert told.env == {}
    assert unlike(running, plan({"depth": 3}, described)) == "DEPTH is told by no request"


def test_a_proxy_that_takes_over_knows_the_requests() -> None:
    described = {"path": "/{token}", "body": "{token}", "expect": {"statuses": [200, "300-302"]}}
    made = plan({"token": "t"}, described, {"path": "/b"})
    assert started_plan(json.loads(json.dumps(start_fields(made)))) == made
