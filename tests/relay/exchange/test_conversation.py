"""What is decided about a connection, pure: every event in every stage it can meet."""

from __future__ import annotations

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay.exchange import follower as f
from proxy.relay.exchange.conversation import (
    ABORT,
    CLOSE,
    CONTROL,
    FINISH,
    OVER,
    PATIENCE,
    RESET,
    UPSTREAM,
)
from proxy.relay.exchange.intake import BODY, HEAD, WAIT, Fault
from proxy.relay.http.head import RequestHead
from tests.relay.raw.peers import OK, get, message
from tests.relay.raw.played import Played

POST = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 5")
EXPECTS = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: 5", b"Expect: 100-continue")
UPGRADE = get(b"/", b"Connection: Upgrade", b"Upgrade: any")
SWITCH = message(b"HTTP/1.1 101 Switching Protocols", b"Connection: Upgrade", b"Upgrade: any")
CHUNKED = message(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked")
CLOSING = message(b"HTTP/1.1 200 OK", b"Connection: close", b"Content-Length: 0")


def after(*sent: bytes, answer: bytes = b"") -> Played:
    played = Played()
    played.client(sent)
    if answer:
        played.upstream([answer])
    return played


def read(sent: bytes) -> tuple[Played, RequestHead]:
    """A request that nobody has judged yet."""
    played = Played()
    head = played.intake.read(sent)
    assert isinstance(head, RequestHead)
    played.talk.begin(head)
    return played, head


@pytest.mark.parametrize(
    ("sent", "answer", "event"),
    [
        (get(b"/"), b"", f.BROKEN),
        (get(b"/"), b"HTTP/1.1 2", f.BROKEN),
        (get(b"/"), OK, f.LEFT),
        (get(b"/"), OK[:-1], f.CUT),
        (get(b"/"), CHUNKED, f.CUT),
        (get(b"/"), b"HTTP/1.1 200 OK\r\n\r\n", f.ENDED),
        (get(b"/"), CLOSING, f.MORE),
        (UPGRADE, SWITCH, f.LOST),
    ],
)
def test_what_the_end_of_a_backend_means_depends_on_what_it_owed(
    sent: bytes, answer: bytes, event: int
) -> None:
    assert after(sent, answer=answer).follower.over(reset=False) == event


def test_kept_backend_that_ends_under_a_request_has_vanished() -> None:
    played = after(get(b"/1"), answer=OK)
    played.client([get(b"/2")])
    played.upstream_over(reset=True)
    assert (played.ending, played.talk.status) == (FINISH, 0)


@pytest.mark.parametrize(
    ("sent", "answer", "reset", "ending"),
    [
        (get(b"/"), OK[:-1], False, FINISH),
        (get(b"/"), OK[:-1], True, RESET),
        (get(b"/"), b"HTTP/1.1 200 OK\r\n\r\n", False, FINISH),
        (get(b"/"), b"HTTP/1.1 200 OK\r\n\r\n", True, RESET),
        (UPGRADE, SWITCH, False, CLOSE),
        (UPGRADE, SWITCH, True, RESET),
        (POST, OK, False, FINISH),  # nobody is left to take the rest of the body
    ],
)
def test_end_of_a_backend_is_shown_to_the_client_as_it_was(
    sent: bytes, answer: bytes, *, reset: bool, ending: int
) -> None:
    played = after(sent, answer=answer)
    played.upstream_over(reset=reset)
    assert played.ending == ending


@pytest.mark.parametrize(
    ("sent", "answer", "ending", "stage"),
    [
        ([get(b"/")], OK, PATIENCE, HEAD),
        ([get(b"/", b"Connection: close")], OK, FINISH, None),
        ([get(b"/")], CLOSING, FINISH, None),
        ([POST], OK, PATIENCE, BODY),
        ([POST], CLOSING, FINISH, None),
        ([EXPECTS], OK, FINISH, None),
        ([EXPECTS, b"1"], OK, PATIENCE, BODY),
        ([UPGRADE], OK, PATIENCE, HEAD),
        ([UPGRADE, b"early"], OK, FINISH, None),
        ([get(b"/1"), get(b"/2")], OK, PATIENCE, WAIT),
    ],
)
def test_what_follows_an_answer(
    sent: list[bytes], answer: bytes, ending: int, stage: int | None
) -> None:
    played = after(*sent, answer=answer)
    assert played.ending == ending
    if stage is not None:
        assert played.intake.stage == stage


@pytest.mark.parametrize(
    ("sent", "verdict", "follows"),
    [
        (get(b"/"), Verdict.REFUSE, OVER),
        (get(b"/"), Verdict.UNAUTHORIZED, OVER),
        (get(b"/"), Verdict.CLOSE, FINISH),
        (get(b"/", b"Connection: close"), Verdict.REFUSE, FINISH),
        (POST, Verdict.REFUSE, PATIENCE),  # its body is dropped first
        (EXPECTS, Verdict.REFUSE, FINISH),
        (POST.replace(b"5", b"70000"), Verdict.REFUSE, FINISH),
        (message(b"PUT / HTTP/1.1", b"Host: a", CHUNKED.split(b"\r\n")[1]), Verdict.REFUSE, FINISH),
        (UPGRADE, Verdict.REFUSE, FINISH),
    ],
)
def test_connection_outlives_a_refusal_if_what_follows_has_one_reading(
    sent: bytes, verdict: Verdict, follows: int
) -> None:
    played, head = read(sent)
    assert played.talk.turn_away(verdict, head) == follows


@pytest.mark.parametrize(
    ("sent", "answer", "stuck", "paused", "follows"),
    [
        ([], b"", None, False, CLOSE),
        ([b"GET / HT"], b"", None, False, Fault(408, "the request head took too long")),
        ([POST], b"", None, False, Fault(408, "the request body stopped")),
        ([POST], b"", None, True, PATIENCE),
        ([POST], CHUNKED, None, False, PATIENCE),
        ([POST], OK, None, False, ABORT),
        ([get(b"/")], b"", None, False, ABORT),
        ([get(b"/")], CHUNKED, False, False, PATIENCE),
        ([get(b"/")], CHUNKED, True, False, ABORT),
    ],
)
def test_what_is_too_slow(
    sent: list[bytes], answer: bytes, *, stuck: bool | None, paused: bool, follows: int | Fault
) -> None:
    played = after(*sent, answer=answer)
    assert played.talk.too_slow(stuck=stuck, paused=paused) == follows
    assert (played.talk.cause == "timeout") == (follows == ABORT)


@pytest.mark.parametrize("source", [CONTROL, UPSTREAM])
def test_a_backend_that_closes_an_idle_connection_costs_the_client_nothing(source: int) -> None:
    played = after(get(b"/"), answer=OK)
    assert played.talk.heard(played.follower, source, f.LEFT) == PATIENCE
    played.client([get(b"/2")])
    assert not played.talk.last


def test_an_upstream_that_closes_behind_an_early_answer_ends_the_rest_of_the_body() -> None:
    played = after(POST + b"12", answer=OK)
    assert played.talk.heard(played.follower, UPSTREAM, f.LEFT) == FINISH


def test_an_idle_client_of_an_upstream_that_is_gone_is_closed() -> None:
    assert after(get(b"/"), answer=OK).talk.forsaken() == FINISH


def test_a_request_is_the_last_one_when_the_upstream_is_gone() -> None:
    played, _ = read(get(b"/"))
    assert played.talk.forsaken() == PATIENCE
    assert played.talk.last


def test_parked_body_waits_and_goes_on_with_its_head() -> None:
    played, head = read(POST + b"123")
    played.intake.park()
    assert played.intake.read(b"45") is None
    played.talk.unpark(Verdict.RELAY, head)
    out = played.talk.ask(head, UPSTREAM, played.follower)
    assert isinstance(out, bytes)
    assert out.endswith(b"\r\n\r\n12345")


def test_tunnel_gets_what_came_for_it_early_and_101_needs_the_whole_request() -> None:
    assert after(UPGRADE, b"early", answer=SWITCH).to_upstream.endswith(b"\r\n\r\nearly")
    upgrade_with_body = message(
        b"POST / HTTP/1.1", *UPGRADE.split(b"\r\n")[1:4], b"Content-Length: 2"
    )
    assert isinstance(after(upgrade_with_body, b"1", answer=SWITCH).ending, Fault)
    assert after(upgrade_with_body, b"12", answer=SWITCH).ending == PATIENCE
