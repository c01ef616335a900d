from __future__ import annotations

import io
import json
import logging
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.lifecycle.redact import MASK, Redactor
from proxy.log import Log

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_redactor_masks_values_and_the_lines_of_long_ones() -> None:
    mask = Redactor(["hunter2", "-----BEGIN KEY-----\nMIIBOgIBAAJBAKj3\n-----END KEY-----\n"])
    assert mask("login hunter2 failed") == f"login {MASK} failed"
    assert mask("line: MIIBOgIBAAJBAKj3.") == f"line: {MASK}."


def test_longer_value_is_masked_before_the_one_it_contains() -> None:
    assert Redactor(["key", "key-and-more"])("key-and-more") == MASK


def test_redactor_of_nothing_changes_nothing() -> None:
    assert Redactor(["", " "])("a b") == "a b"
    assert repr(Redactor(["secret"])) == "<Redactor armed>"


LETTERS = st.text("abc", min_size=1)


@given(st.lists(LETTERS), st.lists(LETTERS))
def test_no_value_survives_the_redactor(values: list[str], words: list[str]) -> None:
    masked = Redactor(values)("".join(words + values))
    assert not any(value in rest for value in values for rest in masked.split(MASK))


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level


@pytest.mark.usefixtures("root_logger")
def test_json_records_are_one_masked_line_each() -> None:
    stream = io.StringIO()
    log = Log("debug", "json", stream)
    log.mask = Redactor(["s3cret"])
    try:
        int("bad s3cret")
    except ValueError:
        logging.getLogger("x").exception("a\nb s3cret", extra={"field": "s3cret!", "n": 1})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert "s3cret" not in line
    record = json.loads(line)
    assert record["message"] == "a\nb ***"
    assert (record["field"], record["n"], record["level"]) == ("***!", 1, "error")
    assert "ValueError: invalid literal" in record["exception"]


@pytest.mark.usefixtures("root_logger")
def test_text_records_carry_fields() -> None:
    stream = io.StringIO()
    Log("debug", "text", stream)
    logging.getLogger("x").warning("hello %s", "you", extra={"field": "v"})
    assert stream.getvalue().rstrip().endswith("WARNING x: hello you field=v")
