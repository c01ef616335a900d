from __future__ import annotations

import base64
import io
import json
import logging
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from proxy.lifecycle.redact import MASK, Redactor
from proxy.log.log import Log

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


SECRET = "p/ss+wörd \"&=?~'#42"


@pytest.mark.parametrize(
    "text",
    [
        f"?token={quote(SECRET)}",
        f"?token={quote(SECRET, safe='')}&x=1",
        f"?token={quote_plus(SECRET)}",
        re.sub("%..", lambda code: code[0].lower(), f"?token={quote(SECRET, safe='')}"),
        f"?token={quote(SECRET, safe=chr(39) + '!()*')}",
        json.dumps({"token": SECRET}),
        json.dumps({"token": SECRET}, ensure_ascii=False),
        repr([SECRET]),
        json.dumps({"said": json.dumps({"token": SECRET})}),
        json.dumps({"said": json.dumps({"token": SECRET}, ensure_ascii=False)}),
        repr([json.dumps({"token": SECRET})]),
        f"Basic {base64.b64encode(SECRET.encode()).decode()}",
        f"Basic {base64.b64encode(f'u:{SECRET}'.encode()).decode()}",
        f"Basic {base64.b64encode(f'us:{SECRET}!'.encode()).decode()}",
        f"Basic {base64.urlsafe_b64encode(f'user:{SECRET}>>'.encode()).decode()}",
    ],
)
def test_a_value_is_masked_in_the_forms_that_programs_give_it(text: str) -> None:
    masked = Redactor([SECRET])(text)
    assert MASK in masked
    assert len(masked) < len(text) - 15
    for rest in ("42", "p/ss", "p%2Fss", "%2342", base64.b64encode(b"p/ss").decode()[:5]):
        assert rest not in masked


@given(st.binary(max_size=5), st.text(min_size=9), st.binary(max_size=5))
def test_no_alignment_of_base64_gives_a_value_away(before: bytes, value: str, after: bytes) -> None:
    assume(value.strip())
    data = value.encode()
    masked = Redactor([value])(base64.b64encode(before + data + after).decode())
    left = masked.replace(MASK, "")
    # What is left is the neighbours' and at most a few bits on either side.
    assert len(left) * 6 <= (len(before) + len(after)) * 8 + 6 * 8


def test_a_short_value_does_not_mask_what_only_looks_like_its_base64() -> None:
    assert Redactor(["abc"])("YWJj is a word") == "YWJj is a word"


LETTERS = st.text("abc", min_size=1)


@given(st.lists(LETTERS), st.lists(LETTERS))
def test_no_value_survives_the_redactor(values: list[str], words: list[str]) -> None:
    masked = Redactor(values)("".join(words + values))
    assert not any(value in rest for value in values for rest in masked.split(MASK))


WORDS = st.text("abcde", min_size=4, max_size=9)


@settings(deadline=None)
@given(st.lists(WORDS), st.lists(WORDS))
def test_no_value_survives_among_many(values: list[str], words: list[str]) -> None:
    """Many are found otherwise than few."""
    others = [f"other-{number}" for number in range(300)]
    text = "".join(words + values)
    masked = Redactor(values + others)(text)
    assert not any(value in rest for value in values for rest in masked.split(MASK))
    left, left_by_few = (m.replace(MASK, "") for m in (masked, Redactor(values)(text)))
    assert len(left) <= len(left_by_few)
    assert Redactor(others)(text) == text


def test_overlapping_values_leave_no_rest() -> None:
    assert Redactor(["abcd", "cdefgh"])("xabcdefghx") == f"x{MASK}x"


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


@pytest.mark.usefixtures("root_logger")
def test_what_is_nested_in_a_field_is_masked_too() -> None:
    stream = io.StringIO()
    log = Log("debug", "json", stream)
    log.mask = Redactor(["s3cret"])
    fields = {"a": ["s3cret", {"s3cret": 1}], "b": (1, 2.5, None, True), "c": b"s3cret"}
    logging.getLogger("x").info("m", extra={"fields": fields})
    assert json.loads(stream.getvalue())["fields"] == {
        "a": ["***", {"***": 1}],
        "b": [1, 2.5, None, True],
        "c": "b'***'",
    }


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.usefixtures("root_logger")
@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_a_terminal_gets_colours_unless_they_are_not_wanted(
    monkeypatch: pytest.MonkeyPatch, variable: str, *, coloured: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    stream = Terminal()
    Log("debug", "text", stream)
    logging.getLogger("x").error("bad", extra={"timings": {"start": 0.1}})
    text = stream.getvalue()
    assert ("\x1b[31mERROR" in text) is coloured
    assert 'timings={"start": 0.1}' in text


@pytest.mark.usefixtures("root_logger")
def test_the_upstream_cannot_steer_the_terminal() -> None:
    stream = io.StringIO()
    Log("debug", "text", stream)
    logging.getLogger("upstream").info("\x1b]0;title\x07 \x9b2J\ttab", extra={"f": "\x1b[1m"})
    text = stream.getvalue()
    assert "\\x1b]0;title\\x07 \\x9b2J\ttab f=\\x1b[1m" in text
