"""The rules for heads, pure: held against llhttp and against a second, plain reading."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import TYPE_CHECKING

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.relay.http.faults import HeadError, still_incomplete
from proxy.relay.http.fields import forwarded_trailers
from proxy.relay.http.forwarding import Forwarding, Peers
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import CHUNKED, UNTIL_CLOSE, ResponseError, ResponseReader
from proxy.settings import LimitSettings
from tests.relay.raw import strict
from tests.relay.raw.peers import get, message
from tests.relay.requestids import strip_ids

if TYPE_CHECKING:
    from proxy.relay.http.head import RequestHead

READER = HeadReader(LimitSettings())
FEW = LimitSettings(header_count=8)
FEW_READER = HeadReader(FEW)
RESPONSES = ResponseReader(65536)
CLIENT = Forwarding(b"1.2.3.4", trusted=False)
MADE = b"0123456789abcdef-1"
PROXY = Forwarding(b"1.2.3.4", trusted=True)

PIECES = st.sampled_from(
    [
        *[
            "GET / HTTP/1.1",
            "POST",
            "\r\n",
            "\r",
            "\n",
            "\r\n\r\n",
            " ",
            "\t",
            ":",
            ",",
            ";",
            "\x00",
            "\x7f",
            "\x80",
            "#",
            "*",
            "a",
            "0",
            "5",
            "Host: a\r\n",
        ],
        *[
            "Content-Length: 5\r\n",
            "Content-Length",
            "Transfer-Encoding: chunked\r\n",
            "Transfer-Encoding",
        ],
        *[
            "Connection: close\r\n",
            "Connection: Upgrade\r\nUpgrade: x\r\n",
            "X-Forwarded-For: 9\r\n",
            "X: y\r\n",
            "X-Request-ID: r-1\r\n",
            "x_request_id: r\r\n",
            "Connection: X-Request-Id\r\n",
        ],
    ]
)
NOISE = st.lists(PIECES, max_size=12).map(lambda parts: "".join(parts).encode("latin-1"))
HEADS = st.lists(PIECES, max_size=6).map(
    lambda parts: b"GET / HTTP/1.1\r\nHost: a\r\n" + "".join(parts).encode("latin-1") + b"\r\n\r\n"
)


class Seen:
    def __init__(self) -> None:
        self.target = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.complete = False

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value))

    def on_headers_complete(self) -> None:
        self.complete = True


class SeenResponse(Seen):
    """Asks with the head whether the connection persists: behind an empty body llhttp forgets."""

    def __init__(self) -> None:
        super().__init__()
        self.keeps = False
        self.parser = httptools.HttpResponseParser(self)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self.keeps = self.parser.should_keep_alive()


def read_by_llhttp(raw: bytes) -> Seen:
    seen = Seen()
    with suppress(httptools.HttpParserUpgrade):
        httptools.HttpRequestParser(seen).feed_data(raw)
    return seen


def accepted(data: bytes) -> RequestHead | None:
    """The head in `data`, if there is a whole one that is no error."""
    try:
        return READER.read(data)
    except HeadError:
        return None


@settings(max_examples=1500, deadline=None)
@given(data=NOISE | HEADS)
@example(get(b"/", b"X:", b"Y: "))
def test_whatever_is_accepted_llhttp_reads_the_same(data: bytes) -> None:
    head = accepted(data)
    if head is None:
        return
    try:
        seen, raw = read_by_llhttp(head.raw), head.raw
    except httptools.HttpParserInvalidMethodError:
        return  # llhttp knows some methods, we take any
    except httptools.HttpParserError:  # a spelling that it does not know, and that ends here
        raw = head.forward(CLIENT, MADE, upstream=True)
        seen = read_by_llhttp(raw)
    assert seen.complete
    assert seen.target == raw.split(b" ", 2)[1]
    plain = strict.Request(b"", strict.fields(raw.split(b"\r\n")[1:-2]))
    assert [(n, v.strip(b" \t")) for n, v in plain.fields] == [
        (n, v.strip(b" \t")) for n, v in seen.fields
    ]


@settings(max_examples=500, deadline=None)
@given(data=HEADS)
def test_what_goes_on_is_a_good_head_with_the_end_to_end_fields_untouched(data: bytes) -> None:
    head = accepted(data)
    if head is None:
        return
    out = head.forward(CLIENT, MADE, upstream=True)
    again = READER.read(out)
    assert again is not None
    assert again.raw == out
    assert (again.method, again.target, again.length) == (head.method, head.target, head.length)
    before = strict.Request(b"", strict.fields(head.raw.split(b"\r\n")[1:-2]))
    after = strict.Request(b"", strict.fields(out.split(b"\r\n")[1:-2]))
    strip_ids(after, before)
    assert after.end_to_end() == before.end_to_end()


@settings(max_examples=500, deadline=None)
@given(data=NOISE, more=NOISE)
def test_a_beginning_that_is_refused_never_becomes_acceptable(data: bytes, more: bytes) -> None:
    try:
        READER.read(data)
    except HeadError:
        with pytest.raises(HeadError):
            READER.read(data + more)


@settings(max_examples=1000, deadline=None)
@given(data=NOISE | HEADS, more=NOISE | HEADS)
@example(b"GET / HTTP/1.1\r\nA: b\r", b"\n\r\n")
@example(b"GET / HTTP/1.1\r\nA: b\r", b"B: c\r\n")
@example(b"GET / HTTP/1.1\r\nA: b\r\n", b"\r")
@example(b"GET / HTTP/1.1\r\nA: b\r\n", b"A: b\r\n" * 8)
def test_what_is_taken_for_still_incomplete_is_so(data: bytes, more: bytes) -> None:
    try:
        incomplete = FEW_READER.read(data) is None
    except HeadError:
        return
    if incomplete and still_incomplete(bytearray(data + more), len(data), FEW):
        assert FEW_READER.read(data + more) is None


@settings(max_examples=500, deadline=None)
@given(data=NOISE)
@example(b"Transfer-Encoding:")
@example(b"Content-Length:0")
def test_response_heads_that_are_accepted_llhttp_reads_the_same(data: bytes) -> None:
    data = b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"
    try:
        framing = RESPONSES.read(data, bodiless=False, old=False)
    except ResponseError:
        return
    if framing is None:
        return
    seen = SeenResponse()
    parser = seen.parser
    parser.feed_data(data[: framing.end])
    assert seen.complete
    assert parser.get_status_code() == framing.status
    assert seen.keeps == framing.keep


def forwarded(head: bytes, forwarding: Forwarding) -> list[bytes]:
    read = READER.read(head)
    assert read is not None
    out = read.forward(forwarding, MADE, upstream=True)
    return re.findall(rb"\r\n(X-Forwarded[^\r]*)", out)


def test_what_an_untrusted_peer_says_of_itself_is_replaced() -> None:
    said = b"X-Forwarded-For: 6.6.6.6", b"x-forwarded-host: evil", b"X_Forwarded-Proto: https"
    assert forwarded(get(b"/", *said), CLIENT) == [
        b"X-Forwarded-For: 1.2.3.4",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: a",
    ]


def test_what_a_trusted_peer_says_is_kept_and_its_address_added() -> None:
    said = (
        b"X-Forwarded-For: 6.6.6.6, 7.7.7.7",
        b"X-Forwarded-For: 8.8.8.8",
        b"X-Forwarded-Host: site",
    )
    assert forwarded(get(b"/", *said, b"X-Forwarded-Proto: https"), PROXY) == [
        b"X-Forwarded-For: 6.6.6.6, 7.7.7.7, 8.8.8.8, 1.2.3.4",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: site",
    ]
    assert forwarded(get(b"/"), PROXY) == forwarded(get(b"/"), CLIENT)


@pytest.mark.parametrize(
    ("address", "shown", "trusted"),
    [
        ("10.1.2.3", b"10.1.2.3", True),
        ("11.1.2.3", b"11.1.2.3", False),
        ("::ffff:10.1.2.3", b"10.1.2.3", True),
        ("fd00::1", b"fd00::1", True),
        ("fe80::1%eth0", b"fe80::1", False),
    ],
)
def test_trust_goes_by_network(address: str, shown: bytes, *, trusted: bool) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("fd00::/8")]
    forwarding = Peers(networks, trust_unix=False).forwarding((address, 1))
    assert forwarding.trusted == trusted
    assert forwarded(get(b"/"), forwarding)[0] == b"X-Forwarded-For: " + shown


def test_peer_on_a_unix_socket_has_no_address_and_is_trusted_only_if_told() -> None:
    said = get(b"/", b"X-Forwarded-For: 6.6.6.6")
    assert forwarded(said, Peers([], trust_unix=False).forwarding(""))[0].startswith(
        b"X-Forwarded-P"
    )
    assert (
        forwarded(said, Peers([], trust_unix=True).forwarding(""))[0] == b"X-Forwarded-For: 6.6.6.6"
    )


def test_key_goes_to_the_control_plane_only() -> None:
    head = READER.read(get(b"/", b"A: 1", b"X-Init-API-Key: k", b"B: 2"))
    assert head is not None
    assert b"\r\nA: 1\r\nB: 2\r\n" in head.forward(CLIENT, MADE, upstream=True)
    assert b"\r\nA: 1\r\nX-Init-API-Key: k\r\nB: 2\r\n" in head.forward(
        CLIENT, MADE, upstream=False
    )


def test_fields_are_found_by_name() -> None:
    head = READER.read(get(b"/", b"Accept:  text/html ", b"X-Accept: no"))
    assert head is not None
    assert head.field(b"accept") == b"text/html"
    assert head.field(b"cept") is None


def test_trailers_that_would_act_as_headers_are_left_out() -> None:
    kept = b"X-A: 1\r\n", b"Digest: x\r\n"
    struck = b"Host: b\r\n", b"content-length:1\r\n", b"X-Forwarded-For: 1\r\n", b"TE: x\r\n"
    assert forwarded_trailers(kept[0] + b"".join(struck) + kept[1]) == b"".join(kept)


@pytest.mark.parametrize(
    ("first", "fields", "length", "keep"),
    [
        (b"HTTP/1.1 200 OK", [b"Content-Length: 7"], 7, True),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 7", b"Connection: x, CLOSE"], 7, False),
        (b"HTTP/1.1 200 OK", [], UNTIL_CLOSE, False),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: gzip, Chunked"], CHUNKED, True),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked, gzip"], UNTIL_CLOSE, False),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 7"], 7, False),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 7", b"Connection: Keep-Alive"], 7, True),
        (b"HTTP/1.1 304 Not", [b"Content-Length: 7"], 0, True),
        (b"HTTP/1.1 101 Up", [], 0, True),
    ],
)
def test_framing_of_responses(
    first: bytes, fields: list[bytes], length: int, *, keep: bool
) -> None:
    data = message(first, *fields)
    framing = RESPONSES.read(data + b"body", bodiless=False, old=False)
    assert framing is not None
    assert (framing.end, framing.length, framing.keep) == (len(data), length, keep)
