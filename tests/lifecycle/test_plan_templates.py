"""Fields of one's own, values that are made, and texts that values fill."""

from __future__ import annotations

import configparser
import json
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import parse_init_request
from proxy.lifecycle.plan import Plan, build_plan, dormant_plan
from proxy.settings import MappingSettings, UpstreamSettings

CONTEXT: dict[str, Any] = {"session_api_keys": ["one-key", "two-key"], "env": {"TOKEN": "sk-token"}}


def plan(fields: dict[str, Any], mapping: dict[str, Any], **upstream: Any) -> Plan:
    described = MappingSettings.model_validate(mapping)
    settings = UpstreamSettings(profile="none", mapping=described, **upstream)
    request = parse_init_request(json.dumps(fields).encode(), described.own_fields)
    return build_plan(settings, request, run_dir="/run/x")


def refused(fields: dict[str, Any], mapping: dict[str, Any], **upstream: Any) -> str:
    with pytest.raises(InvalidFieldError) as caught:
        plan(fields, mapping, **upstream)
    return str(caught.value).removeprefix("cannot accept the init request: ")


OWN: dict[str, Any] = {
    "fields": {
        "model": {"type": "string", "env": "MODEL"},
        "tags": {"type": "list", "env": "TAGS", "encode": "comma"},
        "pin": {"type": "secret", "env": "PIN"},
        "home": {"type": "path", "env": "HOME_DIR"},
        "depth": {"type": "integer", "env": "DEPTH"},
    }
}


def test_fields_of_ones_own_are_delivered_by_their_types() -> None:
    given_values = {"model": "m", "tags": ["a", "b"], "pin": "9", "home": "/h", "depth": "-3"}
    made = plan(given_values, OWN)
    assert made.env == {
        "MODEL": "m", "TAGS": "a,b", "PIN": "9", "HOME_DIR": "/h", "DEPTH": "-3",
    }  # fmt: skip
    assert made.secrets == {"9"}
    assert plan({"model": " ", "pin": "", "depth": None}, OWN).env == {}


@pytest.mark.parametrize(
    "name", ["delivered", "environment", "json", "copy", "model_dump", "own_x"]
)
def test_a_field_of_ones_own_may_have_any_name(name: str) -> None:
    mapping = {"fields": {name: {"type": "string", "env": "V"}}}
    assert plan({name: "value"}, mapping).env == {"V": "value"}
    assert refused({name: 1}, mapping) == f"{name}: must be a string, not a number"
    fault = refused({f"own_{name}": "value"}, mapping)
    assert fault.startswith(f"own_{name}: unknown field")


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"model": 1}, "model: must be a string, not a number"),
        ({"tags": "a"}, "tags: must be a list, not a string"),
        ({"tags": ["a,b"]}, "tags[0]: contains a comma, which separates the items here"),
        ({"home": "h"}, "home: must be an absolute path"),
        ({"depth": "x"}, "depth: must be a whole number, not a string"),
        ({"depth": True}, "depth: must be a whole number, not true"),
        ({"modell": "m"}, "modell: unknown field (did you mean model?)"),
        ({"pin": "a\x00b"}, "pin: contains a NUL character"),
        ({"env": {"MODEL": "m"}, "model": "m"}, "env.MODEL: cannot be set here, only as model"),
    ],
)
def test_a_field_of_ones_own_of_another_type_is_refused(fields: dict[str, Any], fault: str) -> None:
    assert refused(fields, OWN) == fault


def test_required_fields_are_named_together() -> None:
    mapping = {
        "fields": {
            "secret_key": {"env": "KEY", "required": True},
            "model": {"type": "string", "env": "MODEL", "required": True},
        }
    }
    assert refused({"secret_key": " "}, mapping) == "secret_key: is required; model: is required"
    assert plan({"secret_key": "k", "model": "m"}, mapping).env == {"KEY": "k", "MODEL": "m"}


def test_a_value_is_made_when_none_comes_and_is_masked() -> None:
    mapping = {
        "fields": {"password": {"type": "string", "generate": True, "env": "PASSWORD"}},
        "variables": {"URL": "db://agent:{password}@localhost"},
    }
    first, second = plan({}, mapping), plan({}, mapping)
    password = first.env["PASSWORD"]
    assert len(password) > 40
    assert first.env["URL"] == f"db://agent:{password}@localhost"
    assert first.secrets == {password}
    assert second.env["PASSWORD"] != password
    assert plan({"password": "given"}, mapping).env["PASSWORD"] == "given"


def test_one_field_goes_to_several_places() -> None:
    mapping = {
        "fields": {
            "session_api_keys": {
                "env": "KEYS",
                "encode": "comma",
                "also": [
                    {"env": "KEY", "encode": "indexed", "unset": ["KEY_FILE"]},
                    {"file": "f", "key": "auth.tokens"},
                ],
            }
        },
        "files": {"f": {"path": "/f"}},
    }
    made = plan({"session_api_keys": ["a", "b"]}, mapping)
    assert made.env == {"KEYS": "a,b", "KEY_0": "a", "KEY_1": "b"}
    assert made.unset == ("KEY", "KEYS", "KEY_FILE", "KEY_[0-9]*")
    assert json.loads(made.files[0].content) == {"auth": {"tokens": ["a", "b"]}}
    assert refused({"session_api_keys": ["a"], "env": {"KEY_7": "x"}}, mapping).startswith(
        "env.KEY_7: cannot be set here"
    )


@pytest.mark.parametrize(
    ("template", "filled"),
    [
        ("{session_api_keys[0]}", "one-key"),
        ("Bearer {session_api_keys[1]}!", "Bearer two-key!"),
        ("{session_api_keys}", "one-key,two-key"),
        ("{session_api_keys[7]:-none}", "none"),
        ("{env.TOKEN}/{env.OTHER:-a b}", "sk-token/a b"),
        ("{web_url:-}", ""),
        ("{{web_url}} ${web_url} {} {A}", "{web_url} ${web_url} {} {A}"),
        ('{"a": 1} {web url}', '{"a": 1} {web url}'),
    ],
)
def test_places_are_filled_wherever_templates_stand(template: str, filled: str) -> None:
    mapping = {
        "fields": {"session_api_keys": {"env": "K", "encode": "comma"}, "web_url": {}},
        "variables": {"V": template},
        "files": {
            "raw": {"path": "/raw", "format": "raw", "content": f"x={template}\n"},
            "tree": {"path": "/tree", "base": {"a": {"b": 1}}, "values": {"a.c": template}},
        },
    }
    made = plan(CONTEXT, mapping, command=("server", "--x", template), cwd=f"/d/{template}")
    assert made.env["V"] == filled
    assert made.argv == ("server", "--x", filled)
    assert made.cwd == f"/d/{filled}"
    raw, tree = made.files
    assert raw.content.decode() == f"x={filled}\n"
    assert json.loads(tree.content) == {"a": {"b": 1, "c": filled}}


def test_braces_in_a_command_that_name_no_field_are_the_commands_own() -> None:
    text = "awk '{print}' {{print}} {print[0]} {print:-x}"
    mapping: dict[str, Any] = {"fields": {"web_url": {}}}
    made = plan({"web_url": "u"}, mapping, command=("sh", f"{text} {{web_url}} {{{{web_url}}}}"))
    assert made.argv[1] == f"{text} u {{web_url}}"


def test_what_a_place_needs_and_does_not_get_is_named() -> None:
    mapping: dict[str, Any] = {"fields": {"session_api_keys": {}, "telemetry": {}}}
    server = {"command": ("server", "{session_api_keys[0]}")}
    assert refused({}, mapping, **server) == "session_api_keys[0]: is needed by this upstream"
    token = {"command": ("server", "{env.TOKEN}")}
    assert refused({}, mapping, **token) == "env.TOKEN: is needed by this upstream"
    keys = {"session_api_keys": ["a,b"]}
    listed = refused(keys, mapping, command=("server", "{session_api_keys}"))
    assert listed == "session_api_keys[0]: contains a comma, which separates the items here"
    made = plan({"telemetry": {"a": [1]}}, mapping, command=("server", "{telemetry}"))
    assert made.argv[1] == '{"a": [1]}'


def test_an_argument_that_no_program_can_be_given_is_refused() -> None:
    mapping: dict[str, Any] = {"fields": {"web_url": {}}}
    fault = refused({"web_url": "x" * 131_072}, mapping, command=("server", "{web_url}"))
    assert fault == "argument 1 of the command: is too long: 131072 bytes, as filled"


def test_a_variable_that_a_template_fills_is_not_the_callers() -> None:
    mapping = {"variables": {"AUTH": "Bearer {env.TOKEN:-none}"}}
    assert refused({"env": {"AUTH": "x"}}, mapping) == "env.AUTH: is set by the proxy"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))
trees = st.recursive(
    st.none().map(lambda _: "") | st.booleans() | st.integers(-(2**63), 2**63 - 1) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(texts, trees, max_size=4), texts)
def test_toml_is_read_as_it_was_meant(base: dict[str, Any], url: str) -> None:
    mapping = {
        "fields": {"web_url": {"file": "f", "key": "the.url"}},
        "files": {"f": {"path": "/f", "format": "toml", "base": base}},
    }
    (file,) = plan({"web_url": f"u{url}"}, mapping).files
    the = base["the"] if isinstance(base.get("the"), dict) else {}
    assert tomllib.loads(file.content.decode()) == base | {"the": the | {"url": f"u{url}"}}


def test_ini_is_read_as_it_was_meant() -> None:
    mapping = {
        "fields": {
            "web_url": {"file": "f", "key": "server.url"},
            "allow_cors_origins": {"file": "f", "key": "server.origins", "encode": "comma"},
        },
        "files": {
            "f": {
                "path": "/f",
                "format": "ini",
                "base": {"server": {"workers": 2, "url": "none"}, "log": {"level": "100%"}},
                "values": {"auth.token": "Bearer {env.TOKEN}"},
            }
        },
    }
    delivered: dict[str, Any] = {"web_url": "http://x;#=", "allow_cors_origins": ["a", "b"]} | {
        "env": {"TOKEN": "t"}
    }
    (file,) = plan(delivered, mapping).files
    reader = configparser.RawConfigParser()
    reader.read_string(file.content.decode())
    assert {name: dict(reader[name]) for name in reader.sections()} == {
        "server": {"workers": "2", "url": "http://x;#=", "origins": "a,b"},
        "log": {"level": "100%"},
        "auth": {"token": "Bearer t"},
    }
    for text in ("a\nb", " a", "a\r"):
        fault = refused(
            {"web_url": f"x{text}" if text != " a" else text, "env": {"TOKEN": "t"}}, mapping
        )
        assert fault.startswith("server.url: has a line break or space at an end")


def test_a_null_that_toml_has_no_word_for_is_refused() -> None:
    mapping = {
        "fields": {"telemetry": {"file": "f"}},
        "files": {"f": {"path": "/f", "format": "toml"}},
    }
    fault = refused({"telemetry": {"a": None}}, mapping)
    assert fault == "a null is given, and a toml file has no word for it"


NATIVE: dict[str, Any] = {
    "fields": {"session_api_keys": {"env": "K", "encode": "comma"}},
    "native": {"switch": {"WAIT": "1"}, "key_env": "INIT"},
}


def test_a_dormant_upstream_needs_nothing_yet() -> None:
    mapping = MappingSettings.model_validate(
        NATIVE | {"fields": {"session_api_keys": {"env": "K", "encode": "comma", "required": True}}}
    )
    upstream = UpstreamSettings(
        profile="none", mapping=mapping, command=("s", "{session_api_keys}"), dormancy="native"
    )
    assert mapping.native is not None
    made = dormant_plan(upstream, mapping.native, "key", run_dir="/run/x")
    assert made.argv == ("s", "")


@pytest.mark.parametrize(
    ("more", "upstream", "why"),
    [
        ({}, {}, None),
        ({"variables": {"V": "{env.A:-}"}}, {}, None),
        ({}, {"command": ("s", "{env.A:-}")}, "env.A is needed where its own init does not reach"),
        (
            {"fields": NATIVE["fields"] | {"model": {"type": "string", "env": "M"}}},
            {},
            "its own init does not know model",
        ),
    ],
)
def test_what_an_init_of_the_upstreams_own_cannot_say_takes_a_fresh_start(
    more: dict[str, Any], upstream: dict[str, Any], why: str | None
) -> None:
    fields = {"session_api_keys": ["k"]} | ({"model": "m"} if "fields" in more else {})
    made = plan(fields, NATIVE | more, dormancy="native", **upstream)
    assert made.fresh == why
    if why is None:
        assert json.loads(made.request)["env"] | {"K": "k"} == json.loads(made.request)["env"]
