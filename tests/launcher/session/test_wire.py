"""The wire: whatever comes in, the answer names the fault, shows no value, and work goes on."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.launcher.errors import LaunchError
from proxy.launcher.session.spec import Spec
from tests.launcher.launching import Launcher

SECRET = "s3cr3t-value"
GOOD: dict[str, Any] = {"argv": ["true"], "base_unset": []}


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "the line is not valid JSON"),
        (b"\xff\xfe", "the line is not valid JSON"),
        (b"[" * 100_000, "the line is not valid JSON"),
        (b'{"env": {"K": "' + SECRET.encode() + b'"', "the line is not valid JSON"),
        (b"[]", "the line is not a JSON object"),
        (b"null", "the line is not a JSON object"),
    ],
)
def test_line_that_is_no_message_is_answered_and_skipped(line: bytes, why: str) -> None:
    with Launcher() as launcher:
        launcher.socket.sendall(line + b"\n\n \n")
        answer = launcher.answer(None)
        assert answer == {"id": None, "ok": False, "error": f"cannot read a message: {why}"}
        assert launcher.start("true")
    assert launcher.stderr == ""


def test_oversized_line_is_refused_in_bounded_memory() -> None:
    with Launcher() as launcher:
        for _ in range(40):
            launcher.socket.sendall(b"x" * 2**20)
        launcher.socket.sendall(b"\n")
        answer = launcher.answer(None)
        assert answer["error"] == "cannot read a message: the line is longer than 16777216 bytes"
        assert launcher.resident() < 60 * 2**20
        assert launcher.start("true")


def test_large_message_in_small_pieces_arrives() -> None:
    with Launcher() as launcher:
        value = "v" * 100_000
        line = json.dumps({"id": 5, "op": "start", "env": {"A": value}} | GOOD).encode() + b"\n"
        for start in range(0, len(line), 1000):
            launcher.socket.sendall(line[start : start + 1000])
        assert launcher.answer(5)["ok"]


@pytest.mark.parametrize(
    ("message", "error"),
    [
        ({"id": 1}, "cannot serve a command: unknown op"),
        ({"id": 1, "op": "fly"}, "cannot serve a command: unknown op"),
        ({"id": 1, "op": ["start"]}, "cannot serve a command: unknown op"),
        ({"op": "stop"}, "cannot stop: id must be a number"),
        ({"id": "1", "op": "stop"}, "cannot stop: id must be a number"),
        ({"id": True, "op": "stop"}, "cannot stop: id must be a number"),
        ({"id": 1, "op": "stop", "version": 2}, "cannot stop: the version spoken here is 1"),
        ({"id": 1, "op": "stop", "grace": "x"}, "cannot stop: grace must be a number of seconds"),
        ({"id": 1, "op": "stop", "grace": True}, "cannot stop: grace must be a number of seconds"),
        ({"id": 1, "op": "stop", "grace": -1}, "cannot stop: grace must be from 0 to 86400"),
        ({"id": 1, "op": "stop", "grace": float("nan")}, "cannot stop: grace must be from 0 to"),
        ({"id": 1, "op": "prepare"}, "cannot prepare: argv must be a list of strings"),
        ({"id": 1, "op": "start"}, "cannot start: argv must be a list of strings"),
    ],
)
def test_message_with_a_fault_is_answered(message: dict[str, Any], error: str) -> None:
    with Launcher() as launcher:
        launcher.send(**message)
        identity = message.get("id")
        answer = launcher.answer(identity if type(identity) is int else None)
        assert not answer["ok"]
        assert answer["error"].startswith(error)
        assert launcher.start("true")


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"argv": []}, "argv must name a program"),
        ({"argv": [""]}, "argv must name a program"),
        ({"argv": "true"}, "argv must be a list of strings"),
        ({"argv": ["a", 1]}, "argv[1] must be a string"),
        ({"argv": ["a\0"]}, "argv[0] must not contain NUL"),
        ({"argv": ["\ud800"]}, "argv[0] must be encodable as UTF-8"),
        ({"cwd": ""}, "cwd must not be empty"),
        ({"cwd": 1}, "cwd must be a string"),
        ({"run_dir": 1}, "run_dir must be a string"),
        ({"base_unset": None}, "base_unset must be a list of strings"),
        ({"unset": [1]}, "unset[0] must be a string"),
        ({"env": [SECRET]}, "env must be an object"),
        ({"env": {"": SECRET}}, "env: '' is not a name"),
        ({"env": {"A=B": SECRET}}, "env: 'A=B' is not a name"),
        ({"env": {"A\0": SECRET}}, "env: a name must not contain NUL"),
        ({"env": {"A": SECRET + "\0"}}, "env: A must not contain NUL"),
        ({"env": {"A": [SECRET]}}, "env: A must be a string"),
        ({"base_env": {"A": 1}}, "base_env: A must be a string"),
        ({"files": {}}, "files must be a list of objects"),
        ({"files": [SECRET]}, "files[0] must be an object"),
        ({"files": [{}]}, "files[0].path must be a string"),
        ({"files": [{"path": ""}]}, "files[0].path must not be empty"),
        ({"files": [{"path": "f"}]}, "files[0].content must be a string"),
        ({"files": [{"path": "f", "content": SECRET}]}, "files[0].content must be base64"),
        ({"files": [{"path": "f", "content": "\u20ac"}]}, "files[0].content must be base64"),
        ({"files": [{"path": "f", "content": "", "mode": "0600"}]}, "files[0].mode must be"),
        ({"files": [{"path": "f", "content": "", "mode": 0o4755}]}, "files[0].mode must be"),
        ({"files": [{"path": "f", "content": "", "base_file": 1}]}, "files[0].base_file must"),
    ],
)
def test_start_with_a_fault_names_the_field_and_no_value(
    fields: dict[str, Any], error: str
) -> None:
    with pytest.raises(LaunchError) as caught:
        Spec(GOOD | fields)
    assert str(caught.value).startswith(error)
    assert SECRET not in str(caught.value)


def test_faulty_start_leaves_the_launcher_as_it_was() -> None:
    with Launcher() as launcher:
        answer = launcher.try_start("true", env={"A": 1})
        assert answer["error"] == "cannot start: env: A must be a string"
        assert launcher.start("true")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
_FIELDS = ["argv", "cwd", "base_env", "base_unset", "env", "unset", "files", "run_dir"]


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.sampled_from(_FIELDS), _JSON))
def test_any_start_is_understood_or_refused(fields: dict[str, Any]) -> None:
    try:
        spec = Spec(GOOD | fields)
    except LaunchError:
        return
    assert all(isinstance(item, str) for item in spec.argv)
    spec.environment({b"A": b"\xff"})


_ENV = st.dictionaries(st.text(st.characters(codec="utf-8", exclude_characters="\0="), min_size=1),
                       st.text(st.characters(codec="utf-8", exclude_characters="\0")))  # fmt: skip


@given(_ENV, _ENV, _ENV)
def test_delivered_environment_wins_over_all_else(
    inherited: dict[str, str], base: dict[str, str], delivered: dict[str, str]
) -> None:
    spec = Spec(GOOD | {"base_env": base, "env": delivered})
    raw = {name.encode(): value.encode() for name, value in inherited.items()}
    composed = spec.environment(raw)
    expected = inherited | base | delivered
    assert composed == {name.encode(): value.encode() for name, value in expected.items()}


def test_content_of_files_comes_out_as_it_went_in() -> None:
    content = bytes(range(256))
    file = {"path": "f", "content": base64.b64encode(content).decode()}
    assert Spec(GOOD | {"files": [file]}).files[0].content == content
