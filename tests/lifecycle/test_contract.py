from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BodyTooLargeError, InvalidFieldError, RequestError
from proxy.lifecycle.contract import (
    InitDetails,
    InitRequest,
    InitStatus,
    parse_init_request,
)
from proxy.lifecycle.told.specs import misspecified

FULL: dict[str, Any] = {
    "session_api_keys": ["session-1", "session-2"],
    "secret_key": "encryption",
    "previous_secret_keys": ["older", "oldest"],
    "conversations_path": "/mnt/user/conversations",
    "bash_events_dir": "/mnt/user/bash",
    "conversation_worktree_root": "/mnt/user/worktrees",
    "env": {"LLM_API_KEY": "sk-1", "EMPTY": ""},
    "webhooks": [{"base_url": "https://hook.test", "headers": {"X-Key": "h"}, "later": {"a": [1]}}],
    "web_url": "https://app.test/runtime/7",
    "allow_cors_origins": ["https://app.test"],
    "max_concurrent_runs": 3,
    "telemetry": {"exporter": "http", "flush_delay": 0.5},
}


def parse(**fields: Any) -> InitRequest:
    return parse_init_request(json.dumps(fields).encode())


def refused(**fields: Any) -> str:
    with pytest.raises(InvalidFieldError) as caught:
        parse(**fields)
    assert caught.value.status == 422
    prefix = "cannot accept the init request: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def unread(body: bytes) -> str:
    with pytest.raises(RequestError) as caught:
        parse_init_request(body)
    assert caught.value.status == 400
    prefix = "cannot read the init request: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix)


def test_every_field_is_delivered_as_it_came() -> None:
    request = parse(**FULL)
    assert request.delivered() | {"env": request.environment()} == FULL


def test_every_field_is_optional_and_null_is_not_given() -> None:
    assert parse() == InitRequest() == parse(**dict.fromkeys(FULL))
    assert parse().delivered() == {}
    assert parse().environment() == {}


@pytest.mark.parametrize("blank", ["", " \t"])
@pytest.mark.parametrize(
    "name",
    [
        *("secret_key", "conversations_path", "bash_events_dir", "conversation_worktree_root"),
        *("web_url", "max_concurrent_runs"),
    ],
)
def test_a_blank_text_is_not_given(name: str, blank: str) -> None:
    assert parse(**{name: blank}).delivered() == {}


@pytest.mark.parametrize("number", [3, 3.0, "3", " 3 "])
def test_what_the_built_in_takes_for_a_whole_number_is_one(number: object) -> None:
    assert parse(max_concurrent_runs=number).delivered() == {"max_concurrent_runs": 3}


@pytest.mark.parametrize(
    ("delivered", "fault"),
    [
        (
            {"telemetry": {"exporter": "bogus"}},
            "telemetry.exporter: must be 'none', 'posthog' or 'http'",
        ),
        ({"telemetry": {"flush_delay": 0}}, "telemetry.flush_delay: must be more than 0"),
        ({"telemetry": {"http_token": 1}}, "telemetry.http_token: must be a string, not a number"),
        (
            {"webhooks": [{"base_url": "u"}, {"base_url": "u", "event_buffer_size": 0}]},
            "webhooks[1].event_buffer_size: must be at least 1",
        ),
        (
            {"webhooks": [{"base_url": "u", "retry_delay": "hush"}]},
            "webhooks[0].retry_delay: must be a whole number, not a string",
        ),
    ],
)
def test_what_an_agent_server_would_not_start_with_is_named(
    delivered: dict[str, Any], fault: str
) -> None:
    parse(**delivered)  # another server may have it so
    assert misspecified(delivered) == [fault]


def test_a_webhook_and_telemetry_of_any_release_are_let_through() -> None:
    assert misspecified(FULL) == []
    numbers = {"event_buffer_size": "7", "flush_delay": "0.5", "num_retries": 2.0, "later": {}}
    assert misspecified({"webhooks": [{"base_url": "u", **numbers}], "telemetry": numbers}) == []


def test_blank_previous_secret_keys_are_left_out() -> None:
    given = parse(previous_secret_keys=["", "old", " "]).delivered()
    assert given == {"previous_secret_keys": ["old"]}


def test_no_session_keys_takes_none_away() -> None:
    assert parse(session_api_keys=[]).delivered() == {}


def test_other_empty_lists_are_given() -> None:
    fields: dict[str, Any] = {"webhooks": [], "allow_cors_origins": [], "telemetry": {}}
    assert parse(**fields).delivered() == fields


def test_no_value_is_in_any_representation() -> None:
    request = parse(**FULL)
    shown = repr(request) + str(request) + repr(request.webhooks) + f"{[request]}"
    for value in ("session-1", "encryption", "older", "sk-1", "hook.test", "X-Key", "/mnt", "http"):
        assert value not in shown
    assert "session_api_keys" in shown
    assert "LLM_API_KEY" in shown


@pytest.mark.parametrize("key", ["", " ", "\t\n"])
def test_a_blank_session_key_is_refused_by_its_index(key: str) -> None:
    assert refused(session_api_keys=["good", key]) == "session_api_keys[1]: cannot be blank"


def test_an_unknown_field_is_named_with_the_closest_known_one() -> None:
    assert (
        refused(session_api_key=["x"])
        == "session_api_key: unknown field (did you mean session_api_keys?)"
    )
    assert refused(zzz=1) == "zzz: unknown field"
    assert refused(openai_api_key=1) == "openai_api_key: unknown field"
    assert refused(OPENAI_API_KEY=1) == "OPENAI_API_KEY: unknown field (a variable goes into env)"
    assert refused(**{'a "b"\n': 1}) == '["a \\"b\\"\\n"]: unknown field'


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"session_api_keys": "k"}, "session_api_keys: must be a list, not a string"),
        ({"session_api_keys": [None]}, "session_api_keys[0]: must be a string, not null"),
        ({"session_api_keys": [1]}, "session_api_keys[0]: must be a string, not a number"),
        ({"secret_key": 1}, "secret_key: must be a string, not a number"),
        ({"secret_key": ["x"]}, "secret_key: must be a string, not a list"),
        ({"previous_secret_keys": {}}, "previous_secret_keys: must be a list, not an object"),
        ({"conversations_path": 5}, "conversations_path: must be a string, not a number"),
        ({"bash_events_dir": False}, "bash_events_dir: must be a string, not false"),
        ({"env": []}, "env: must be an object, not a list"),
        ({"env": {"A": 1}}, "env.A: must be a string, not a number"),
        ({"env": {"A": None}}, "env.A: must be a string, not null"),
        ({"env": {"A": True}}, "env.A: must be a string, not true"),
        ({"env": {"": "x"}}, 'env[""]: a name cannot be empty'),
        ({"env": {"A=hush": "x"}}, "env[\"A...\"]: a name cannot contain '='"),
        ({"webhooks": {}}, "webhooks: must be a list, not an object"),
        ({"webhooks": [1]}, "webhooks[0]: must be an object, not a number"),
        ({"webhooks": [{}]}, "webhooks[0].base_url: is missing"),
        ({"webhooks": [{"base_url": ""}]}, "webhooks[0].base_url: cannot be blank"),
        (
            {"webhooks": [{"base_url": "u", "headers": {"X-A": 1}}]},
            "webhooks[0].headers.X-A: must be a string, not a number",
        ),
        ({"web_url": 1}, "web_url: must be a string, not a number"),
        ({"allow_cors_origins": "*"}, "allow_cors_origins: must be a list, not a string"),
        ({"max_concurrent_runs": 0}, "max_concurrent_runs: must be at least 1"),
        ({"max_concurrent_runs": -3}, "max_concurrent_runs: must be at least 1"),
        (
            {"max_concurrent_runs": 1.5},
            "max_concurrent_runs: must be a whole number, not a fraction",
        ),
        ({"max_concurrent_runs": True}, "max_concurrent_runs: must be a whole number, not true"),
        ({"max_concurrent_runs": "x"}, "max_concurrent_runs: must be a whole number, not a string"),
        ({"telemetry": []}, "telemetry: must be an object, not a list"),
    ],
)
def test_a_field_out_of_type_or_range_is_named(fields: dict[str, Any], fault: str) -> None:
    assert refused(**fields) == fault


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        ({"env": {"A": "x\0y"}}, "env.A: contains a NUL character"),
        ({"env": {"A\0": "x"}}, 'env["A\\u0000"]: the name contains a NUL character'),
        ({"env": {"A": "\ud800"}}, "env.A: contains half of a surrogate pair"),
        ({"env": {"\udfff": "x"}}, 'env["\\udfff"]: the name contains half of a surrogate pair'),
        ({"conversations_path": "/a\0"}, "conversations_path: contains a NUL character"),
        ({"session_api_keys": ["a", "\0"]}, "session_api_keys[1]: contains a NUL character"),
        ({"telemetry": {"a": [{"b": "\0"}]}}, "telemetry.a[0].b: contains a NUL character"),
        (
            {"webhooks": [{"base_url": "u", "x": "\udc00"}]},
            "webhooks[0].x: contains half of a surrogate pair",
        ),
    ],
)
def test_text_that_no_environment_can_hold_is_refused(fields: dict[str, Any], fault: str) -> None:
    assert refused(**fields) == fault


def test_a_whole_surrogate_pair_is_one_character() -> None:
    request = parse_init_request(b'{"env": {"A": "\\ud83d\\ude00"}}')
    assert request.environment() == {"A": "\N{GRINNING FACE}"}


def test_all_faults_are_reported_at_once() -> None:
    told = refused(session_api_keys=[""], max_concurrent_runs=0, nonsense=1, env={"": "x", "B": 2})
    assert told.split("; ") == [
        "session_api_keys[0]: cannot be blank",
        'env[""]: a name cannot be empty',
        "env.B: must be a string, not a number",
        "max_concurrent_runs: must be at least 1",
        "nonsense: unknown field",
    ]


def test_very_many_faults_are_counted_not_listed() -> None:
    told = refused(env={f"N{i}": i for i in range(1000)}, **{f"x{i}": 1 for i in range(900)})
    assert told.endswith("; and 1880 more")
    assert len(told) < 2000


def test_a_refusal_quotes_no_value() -> None:
    hush = "hush-hush"
    told = refused(
        session_api_keys=hush,
        secret_key=[hush],
        conversations_path=[hush],
        env={f"A={hush}": hush, "B": [hush], "C": f"{hush}\0"},
        webhooks=[hush, {"url": hush}],
        max_concurrent_runs=hush,
        telemetry=hush,
        unknown=hush,
    )
    assert hush not in told


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "the body is empty; send {} for a request without fields"),
        (b" \n", "the body is empty; send {} for a request without fields"),
        (b"[]", "the body must be a JSON object, not a list"),
        (b"null", "the body must be a JSON object, not null"),
        (b'"{}"', "the body must be a JSON object, not a string"),
        (b"3", "the body must be a JSON object, not a number"),
        (b"{", "not JSON at line 1, column 2"),
        (b'{"a" 1}', "not JSON at line 1, column 6"),
        (b'{"a": hush}', "not JSON at line 1, column 7"),
        (b'{\n"a": "hush}', "not JSON at line 2, column 6"),
        (b'{"a": "hush\n"}', "not JSON at line 1, column 12"),
        (b'{"a": "\\hush"}', "not JSON at line 1, column 8"),
        (b"{} x", "not JSON at line 1, column 4"),
        (b"\xef\xbb\xbf{}", "the body begins with a byte order mark"),
        (b'{"a": "\xff"}', "not UTF-8 at byte 7"),
        (b'{"env": {"A": "\xed\xa0\x80"}}', "not UTF-8 at byte 15"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8 at byte 0"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b'{"a": -Infinity}', "-Infinity is not JSON"),
        (b'{"a": 1e999}', "a number is too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "a number has too many digits"),
        (b'{"a": 1, "a": 2}', 'the name "a" is given twice in one object'),
        (b'{"env": {"B": "x", "B": "x"}}', 'the name "B" is given twice in one object'),
        (b'{"a": ' * 33 + b"1" + b"}" * 33, "nested deeper than 32 levels"),
        (b'{"a": ' * 2000, "nested deeper than 32 levels"),
        (b"[" * 2000, "nested deeper than 32 levels"),
        (b"[" * 40, "nested deeper than 32 levels"),
    ],
)
def test_what_is_not_one_json_object_is_refused_with_its_place(body: bytes, fault: str) -> None:
    assert unread(body) == fault


@pytest.mark.parametrize(
    "body",
    [
        b'{"session_api_keys": [' + b"1," * 500_000 + b"1]}",
        b'{"a": [' + b'"",' * 300_000 + b"1]}",
        b'{"a": [' + b"{}," * 300_000 + b"1]}",
        b'{"a": ' * 100_000,
        b"[" * 500_000,
        json.dumps({f"name_{i}": 1 for i in range(19_000)}).encode(),
        json.dumps({"env": {f"NAME_{i}": "a-value" for i in range(18_000)}}).encode(),
    ],
)
def test_more_values_than_any_request_has_are_refused_before_they_are_read(body: bytes) -> None:
    with pytest.raises(BodyTooLargeError, match="more than 2000 values"):
        parse_init_request(body)


def test_commas_and_brackets_within_texts_are_no_values() -> None:
    table = 'a,b,[c],{"d": "e\\"},\n' * 10_000
    assert parse(env={"TABLE": table}).environment() == {"TABLE": table}


def test_many_session_keys_are_refused() -> None:
    keys = [f"key-{i}" for i in range(101)]
    assert refused(session_api_keys=keys) == "session_api_keys: must have at most 100 items"
    assert parse(session_api_keys=keys[:100]).delivered() == {"session_api_keys": keys[:100]}


@given(st.binary(max_size=60))
def test_any_bytes_are_refused_cleanly(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_init_request(b"\x01" + body)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from(sorted(FULL)) | st.text(max_size=8), _JSON, max_size=5))
def test_any_object_is_accepted_or_refused_cleanly(fields: dict[str, Any]) -> None:
    body = json.dumps(fields).encode()
    try:
        request = parse_init_request(body)
    except RequestError as error:
        str(error).encode("ascii")
    else:
        given = request.delivered()
        assert set(given) <= set(fields)
        json.dumps(given).encode()


def test_the_plain_status_is_exactly_state_and_error() -> None:
    assert json.loads(InitStatus(state="dormant").model_dump_json()) == {
        "state": "dormant",
        "error": None,
    }


def test_the_details_extend_the_plain_status() -> None:
    details = InitDetails(state="ready", since=1.5, attempt=1, timings={"start": 0.1})
    assert {
        "state",
        "error",
        "phase",
        "attempt",
        "since",
        "timings",
        "start",
        "pid",
        "restarts",
        "next_try",
        "next",
        "preload",
    } == (set(details.model_dump()))
