"""What the upstream logs as JSON stays JSON: its level, its message, its fields."""

from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.lifecycle.redact import MASK, Redactor
from proxy.log.jsonline import read_record
from proxy.log.log import Log
from proxy.log.upstreamlog import UpstreamLog

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "hunter2-of-the-user"
PIN = "83726153"


@pytest.fixture(autouse=True)
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def logged(*lines: str, level: str = "info") -> list[dict[str, Any]]:
    stream = io.StringIO()
    log = Log(level, "json", stream)
    mask = log.mask = Redactor([SECRET, PIN])
    upstream = UpstreamLog()
    upstream.arm(mask)
    for line in lines:
        upstream("stderr", line, False)
    return [json.loads(line) for line in stream.getvalue().split("\n")[:-1]]


def test_fields_stand_under_a_key_of_their_own_and_the_level_is_kept() -> None:
    line = {"levelname": "ERROR", "message": "no room", "message_id": 7, "run": {"id": "x"}}
    (record,) = logged(json.dumps(line))
    assert record["level"] == "error"
    assert record["logger"] == "upstream"
    assert record["message"] == line.pop("message")
    assert record["upstream"] == line
    assert record["stream"] == "stderr"


@pytest.mark.parametrize(
    ("said", "level"),
    [
        ({"level": "warn"}, logging.WARNING),
        ({"severity": "CRITICAL"}, logging.CRITICAL),
        ({"level": "fatal"}, logging.CRITICAL),
        ({"level": 50}, logging.CRITICAL),
        ({"level": 30}, logging.WARNING),
        ({"level": 60}, logging.CRITICAL),
        ({"level": "loud"}, logging.INFO),
        ({"level": "NOTSET"}, logging.INFO),
        ({"level": True}, logging.INFO),
        ({"level": [1]}, logging.INFO),
        ({"log.level": "debug"}, logging.DEBUG),
        ({}, logging.INFO),
    ],
)
def test_levels_are_known_by_their_usual_names(said: dict[str, Any], level: int) -> None:
    record = read_record(json.dumps(said))
    assert record is not None
    assert record.level == level


def test_no_record_is_left_out_that_would_be_shown_as_text() -> None:
    debug, error = json.dumps({"level": "debug"}), json.dumps({"level": "error"})
    assert [record["level"] for record in logged(debug, error)] == ["debug", "error"]
    assert [record["level"] for record in logged(debug, error, level="error")] == ["error"]


def test_values_are_masked_as_text_and_as_numbers_and_as_names() -> None:
    escaped = "".join(f"\\u{ord(character):04x}" for character in SECRET)
    lines = (
        json.dumps({"msg": SECRET, "deep": [{"at": f"x {SECRET}"}], SECRET: 1}),
        f'{{"pin": {PIN}}}',
        json.dumps({"escaped": "ESCAPED"}).replace("ESCAPED", escaped),
    )
    text = json.dumps(logged(*lines))
    assert SECRET not in text
    assert PIN not in text
    assert text.count(MASK) == 5


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "{}x",
        "{nothing}",
        "[1, 2]",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": -Infinity}',
        '{"a": ' + "9" * 5000 + "}",
        '{"a": ' + "[" * 4000 + "]" * 4000 + "}",
    ],
)
def test_what_is_no_record_stays_a_line(line: str) -> None:
    (record,) = logged(line)
    assert record["message"] == line
    assert "upstream" not in record


@settings(max_examples=30)
@given(st.text() | st.text().map(lambda text: "{" + text + "}"))
def test_any_line_is_one_line_of_json(line: str) -> None:
    assert len(logged(line.replace("\n", " "))) == 1


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
    )
)
def test_any_record_comes_out_as_it_came_in(fields: dict[str, Any]) -> None:
    line = {"message": "m", **fields}
    (record,) = logged(json.dumps(line))
    if "upstream" in record:  # else there is an infinite number in it
        names = ("message", "msg", "event")
        line.pop(next((name for name in names if isinstance(line.get(name), str)), ""), None)
        assert record["upstream"] == line
