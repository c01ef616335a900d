"""The mapping engine against the readers that it writes for: a shell, YAML and JSON parsers."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import InitRequest, parse_init_request
from proxy.lifecycle.plan import Plan, build_plan
from proxy.settings import MappingSettings, UpstreamSettings


def plan(fields: dict[str, Any], mapping: dict[str, Any]) -> Plan:
    request = parse_init_request(json.dumps(fields).encode())
    return _build(request, mapping)


def _build(request: InitRequest, mapping: dict[str, Any]) -> Plan:
    upstream = UpstreamSettings(profile="none", mapping=MappingSettings.model_validate(mapping))
    return build_plan(upstream, request, run_dir="/run/x")


def content(fields: dict[str, Any], mapping: dict[str, Any]) -> bytes:
    (file,) = plan(fields, mapping).files
    return file.content


def one_file(file_format: str, fields: dict[str, Any], **file: Any) -> dict[str, Any]:
    to = {name: {"file": "f"} | spec for name, spec in fields.items()}
    return {"fields": to, "files": {"f": {"path": "/f", "format": file_format} | file}}


@pytest.mark.parametrize(
    ("encode", "expected"),
    [
        ("json", {"N": '["a","b c"]'}),
        ("comma", {"N": "a,b c"}),
        ("lines", {"N": "a\nb c"}),
        ("indexed", {"N_0": "a", "N_1": "b c"}),
    ],
)
def test_a_list_becomes_variables(encode: str, expected: dict[str, str]) -> None:
    mapping = {"fields": {"allow_cors_origins": {"env": "N", "encode": encode}}}
    assert plan({"allow_cors_origins": ["a", "b c"]}, mapping).env == expected


def test_texts_and_numbers_become_variables_as_they_are() -> None:
    fields = {"web_url": {"env": "U"}, "max_concurrent_runs": {"env": "M"}}
    delivered = {"web_url": 'a "b"', "max_concurrent_runs": 3}
    assert plan(delivered, {"fields": fields}).env == {"U": 'a "b"', "M": "3"}


@pytest.mark.parametrize(
    ("encode", "item", "fault"),
    [
        ("comma", "a,b", "contains a comma, which separates the items here"),
        ("lines", "a\nb", "contains a line break, which separates the items here"),
    ],
)
def test_an_item_that_would_split_is_refused_by_its_index(
    encode: str, item: str, fault: str
) -> None:
    mapping = {"fields": {"session_api_keys": {"env": "N", "encode": encode}}}
    with pytest.raises(InvalidFieldError) as caught:
        plan({"session_api_keys": ["fine", item]}, mapping)
    assert str(caught.value) == f"cannot accept the init request: session_api_keys[1]: {fault}"


def test_a_delivered_value_wins_over_the_base_and_leaves_the_rest() -> None:
    mapping = one_file(
        "json",
        {"web_url": {"key": "server.url"}, "max_concurrent_runs": {"key": "a.b.c"}},
        base={"server": {"url": "old", "tls": True}, "a": 1, "list": [1, None]},
    )
    assert json.loads(content({"web_url": "new", "max_concurrent_runs": 2}, mapping)) == {
        "server": {"url": "new", "tls": True},
        "a": {"b": {"c": 2}},
        "list": [1, None],
    }
    # The settings themselves are unchanged by it.
    assert json.loads(content({}, mapping))["server"]["url"] == "old"


def test_a_file_is_written_even_when_nothing_goes_into_it() -> None:
    assert content({}, one_file("json", {})) == b"{}\n"
    assert content({}, one_file("dotenv", {})) == b""
    assert yaml.safe_load(content({}, one_file("yaml", {}))) == {}


def test_env_goes_into_the_process_and_into_a_file_when_mapped_so() -> None:
    mapping = one_file("dotenv", {"env": {}, "secret_key": {"key": "KEY"}}, base={"A": "base"})
    made = plan({"secret_key": "k", "env": {"A": "x y", "B": ""}}, mapping)
    assert made.env == {"A": "x y", "B": ""}
    assert made.files[0].content == b"A='x y'\nB=''\nKEY=k\n"
    as_json = one_file("json", {"env": {"key": "process.env"}})
    assert json.loads(content({"env": {"A": "x"}}, as_json)) == {"process": {"env": {"A": "x"}}}


@pytest.mark.parametrize("name", ["KEY", "ORIGIN_0"])
def test_env_cannot_take_the_place_of_a_field_in_a_shared_file(name: str) -> None:
    fields = {
        "env": {},
        "secret_key": {"key": "KEY"},
        "allow_cors_origins": {"key": "ORIGIN", "encode": "indexed"},
    }
    given = {"secret_key": "k", "allow_cors_origins": ["o"], "env": {name: "x"}}
    with pytest.raises(InvalidFieldError, match=f"env.{name}: cannot be set here, only as"):
        plan(given, one_file("dotenv", fields))
    made = plan({"env": {"KEYS": "x"}, "secret_key": "k"}, one_file("dotenv", fields))
    assert made.files[0].content == b"KEYS=x\nKEY=k\n"


def test_a_name_that_no_dotenv_file_can_hold_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match=r"env\.A-B: a dotenv file cannot hold this name"):
        plan({"env": {"A-B": "x"}}, one_file("dotenv", {"env": {}}))


def shell(text: bytes) -> dict[str, str]:
    """What a POSIX shell makes of a dotenv file."""
    script = b"set -a\nset -f\n" + text + b"exec env -0\n"
    done = subprocess.run(["sh"], input=script, env={}, capture_output=True, check=True)
    entries = [entry for entry in os.fsdecode(done.stdout).split("\0") if entry]
    read = dict(entry.split("=", 1) for entry in entries)
    return {name: value for name, value in read.items() if name not in {"PWD", "OLDPWD", "_"}}


AWKWARD = [
    "",
    " lead and trail ",
    "it's",
    'say "hi"',
    "$HOME `id` $(id)",
    "back\\slash \\' \\n",
    "it's $HOME \\ \" ` !",
    "two\nlines\n",
    "#no comment",
    "a=b",
    "~",
    "*",
    "\N{SNOWMAN}\N{GRINNING FACE}",
    "-n",
]


def test_a_shell_reads_every_awkward_value_back() -> None:
    env = {f"V{i}": value for i, value in enumerate(AWKWARD)}
    assert shell(content({"env": env}, one_file("dotenv", {"env": {}}))) == env


_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(st.dictionaries(st.sampled_from("ABCDEFGH"), _TEXT, max_size=6))
def test_yaml_and_json_files_read_back_as_they_were_delivered(env: dict[str, str]) -> None:
    text = content({"env": env}, one_file("yaml", {"env": {"key": "vars"}}))
    assert yaml.safe_load(text) == {"vars": env}
    assert json.loads(content({"env": env}, one_file("json", {"env": {"key": "v"}}))) == {"v": env}


@pytest.mark.parametrize("text", ["1e3", "no", "null", "~", "0o14", "2020-01-01", "1_000", "<<"])
def test_yaml_text_that_looks_like_something_else_stays_text(text: str) -> None:
    written = content({"secret_key": text}, one_file("yaml", {"secret_key": {"key": "k"}}))
    assert written == f'"k": "{text}"\n'.encode()


OWN = ["A", "B", "OH_SECRET_KEY", "OH_DEFERRED_INIT"]
_NAME = st.sampled_from([*OWN, "PROXY_X", "C"]) | _TEXT.filter(lambda n: n != "" and "=" not in n)


@given(st.dictionaries(_NAME, _TEXT, max_size=3))
def test_what_is_delivered_wins_and_the_proxys_own_wins_over_that(env: dict[str, str]) -> None:
    mapping = {
        "fields": {"secret_key": {"env": "A"}, "allow_cors_origins": {"env": "B", "encode": "json"}}
    }
    delivered = {"secret_key": "k", "allow_cors_origins": ["o"]}
    request = InitRequest.model_validate({"env": env} | delivered)
    reserved = [n for n in env if n in OWN or n.startswith("PROXY_")]
    if reserved:
        with pytest.raises(InvalidFieldError) as caught:
            _build(request, mapping)
        assert all(name in str(caught.value) for name in reserved)
        return
    made = _build(request, mapping)
    assert made.env == {**env, "A": "k", "B": '["o"]'}
    assert made.unset == ("A", "B")
    assert not [value for value in env.values() if len(value) > 10 and value in repr(made)]


@given(st.randoms(), _TEXT)
def test_the_same_request_makes_the_same_plan(random: Any, text: str) -> None:
    fields = [("web_url", text), ("max_concurrent_runs", 3), ("secret_key", "k"), ("webhooks", [])]
    shuffled = fields[:]
    random.shuffle(shuffled)
    one, other = (
        build_plan(UpstreamSettings(), InitRequest.model_validate(dict(made)), run_dir="/run/x")
        for made in (fields, shuffled)
    )
    assert one == other
