"""Environment files are read as they were meant, or refused with their line."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.commands.orchestrating.envfile import parse_env_file

GOOD = [
    ("A=1\nB=2", {"A": "1", "B": "2"}),
    ("\ufeff# comment\r\n\r\nA=1\r\n", {"A": "1"}),
    ("export A=1\n  export\tB = 2 \n", {"A": "1", "B": "2"}),
    ("A=", {"A": ""}),
    ("A= # nothing\nB=#also", {"A": "", "B": ""}),
    ("A=a b  # comment\nB=a#b", {"A": "a b", "B": "a#b"}),
    ("A=$HOME ${X} \\n", {"A": "$HOME ${X} \\n"}),
    ("A='$x \\n # no' # yes\nB=''", {"A": "$x \\n # no", "B": ""}),
    ('A="x \\n\\t\\\\ \\" \\$ # no"', {"A": 'x \n\t\\ " $ # no'}),
    ("A=\"one\ntwo\"\nB='three\nfour'\nC=5", {"A": "one\ntwo", "B": "three\nfour", "C": "5"}),
    ("A=x=y", {"A": "x=y"}),
    ("A=it's", {"A": "it's"}),
    ("", {}),
]


@pytest.mark.parametrize(("text", "expected"), GOOD)
def test_a_good_file(text: str, expected: dict[str, str]) -> None:
    assert parse_env_file(text, "f") == (expected, [])


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("A=1\ns3cret\nB=2", ["f:2: is not NAME=VALUE"]),
        ("1A=s3cret", ["f:1: is not NAME=VALUE"]),
        ("A-B=s3cret", ["f:1: is not NAME=VALUE"]),
        ("export A", ["f:1: is not NAME=VALUE"]),
        ("A=1\nA=s3cret", ["f:2: A is set on line 1 already"]),
        ("A='s3cret", ["f:1: A: the quote is never closed"]),
        ('A="a\nb"\nB="s3cret\nC=1', ["f:3: B: the quote is never closed"]),
        ("A='x's3cret\nB", ["f:1: A: there is text after the closing quote", "f:2: is not NAME=V"]),
        ('A="\\q"', ["f:1: A: has an unknown escape; a backslash itself is written twice"]),
        ("A=\0", ["f:1: A: contains NUL"]),
    ],
)
def test_a_bad_file(text: str, faults: list[str]) -> None:
    found = parse_env_file(text, "f")[1]
    assert len(found) == len(faults)
    for fault, expected in zip(found, faults, strict=True):
        assert fault.startswith(expected)
        assert "s3cret" not in fault


def test_with_a_fault_the_rest_still_counts() -> None:
    assert parse_env_file("A=1\nB\nC=3", "f")[0] == {"A": "1", "C": "3"}


@settings(max_examples=200, deadline=None)
@given(st.text("AB=\"'\\ \t\n#x$\0", max_size=40))
def test_junk_is_read_or_refused(text: str) -> None:
    found, faults = parse_env_file(text, "f")
    assert all("\0" not in value for value in found.values())
    assert all(fault.startswith("f:") for fault in faults)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_characters="\0\r", codec="utf-8"), max_size=30))
def test_any_value_can_be_written_in_double_quotes(value: str) -> None:
    written = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parse_env_file(f'A="{written}"\nB=1', "f") == ({"A": value, "B": "1"}, [])


@pytest.mark.parametrize(
    "text", ["A=x" + " " * 200_000 + "y", 'A="' + "\\" * 200_000, "\n" * 200_000]
)
def test_a_large_file_is_read_in_linear_time(text: str) -> None:
    """Quadratic reading of these would run into the suite's time limit."""
    parse_env_file(text, "f")
