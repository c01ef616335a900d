"""Which names two patterns have in common."""

from __future__ import annotations

import fnmatch
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.launcher.audit.policy import matches, overlap

TOKENS = ["a", "b", "c", "*", "?", "[ab]", "[!a]", "[a-b]", "[]a]"]
NAMES = [
    "".join(letters) for length in range(6) for letters in itertools.product("abcd]", repeat=length)
]
patterns = st.lists(st.sampled_from(TOKENS), max_size=3).map("".join)


@settings(deadline=None)
@given(one=patterns, other=patterns)
def test_two_patterns_overlap_if_and_only_if_some_name_fits_both(one: str, other: str) -> None:
    both = any(fnmatch.fnmatchcase(n, one) and fnmatch.fnmatchcase(n, other) for n in NAMES)
    assert overlap(one, other) == both


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("*_proxy", "oh_allow_cors_origins_[0-9]*", True),  # ..._0_proxy
        ("[!_][!_][!_][!_]_proxy", "oh_allow_cors_origins_[0-9]*", False),
        ("[!_][!_][!_][!_]_proxy", "http*", True),
        ("tqdm_*", "oh_*", False),
        ("*key", "key*", True),
        ("oh_[0-9]", "oh_[a-z]", False),
        ("a[", "a[[]", True),
        ("", "*", True),
        ("*" * 40 + "a", "*" * 40 + "b", False),
    ],
)
def test_patterns_as_they_are_met(one: str, other: str, *, both: bool) -> None:
    assert overlap(one, other) is both
    assert overlap(other, one) is both


def test_case_is_ignored() -> None:
    assert matches("HTTP_PROXY", ["[!_][!_][!_][!_]_proxy"])
