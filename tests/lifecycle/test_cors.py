"""Whose pages may read what the proxy answers itself."""

from __future__ import annotations

import pytest

from proxy.lifecycle.cors import Cors

APP = "https://app.test"


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        (APP, APP, True),
        ("https://App.test", APP, True),
        (APP, "https://app.test:8443", False),
        (APP, "http://app.test", False),
        (APP, "https://app.test.evil.test", False),
        ("https://app.test.", "https://app.test", False),
        ("https://*.pods.test", "https://a.b.pods.test", True),
        ("https://*.pods.test", "https://evil.test/.pods.test", False),
        ("http://localhost:*", "http://localhost:3000", True),
        ("http://[::1]:3000", "http://[::1]:3000", True),
        ("https://?.test", "https://a.test", True),
        ("*", "null", True),
        ("*", APP, True),
        ("null", "null", True),
        ("*", "https://app.test\tx", False),  # no header carries it back
        ("*", "", False),
    ],
)
def test_origins_are_compared_whole(pattern: str, origin: str, *, allowed: bool) -> None:
    assert bool(Cors([pattern]).headers(origin)) is allowed


def test_an_answer_says_who_may_read_it_and_what_of_it() -> None:
    headers = dict(Cors([APP]).headers(APP))
    assert headers["Access-Control-Allow-Origin"] == APP
    assert headers["Access-Control-Expose-Headers"] == "Retry-After, X-Request-ID"
    assert Cors([APP]).headers(None) == Cors([]).headers(APP) == ()


def test_delivered_origins_take_the_place_of_our_own_until_their_user_has_gone() -> None:
    cors = Cors([APP])
    cors.deliver(("https://user.test",))
    assert not cors.headers(APP)
    assert cors.headers("https://user.test")
    cors.deliver(())
    assert not cors.headers(APP)
    cors.deliver(None)
    assert cors.headers(APP)


def test_a_preflight_is_told_what_it_asked_for() -> None:
    cors = Cors([APP])
    assert dict(cors.preflight(APP, "PUT", "x-session-api-key, content-type")) == {
        "Access-Control-Allow-Methods": "PUT",
        "Access-Control-Allow-Headers": "x-session-api-key, content-type",
        "Access-Control-Max-Age": "0",
    }
    assert dict(cors.preflight(APP, "PUT", None)).keys() == {
        "Access-Control-Allow-Methods", "Access-Control-Max-Age",
    }  # fmt: skip
    assert cors.preflight(APP, None, None) == ()
    assert cors.preflight("https://other.test", "PUT", None) == ()
    assert cors.preflight(APP, "PUT", "a\tb") == ()
