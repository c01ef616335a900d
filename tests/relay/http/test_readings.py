"""What RFC 9112 has servers accept that is spelled otherwise than usual, and how it goes on."""

from __future__ import annotations

import pytest

from proxy.relay.http.body import RequestBody
from proxy.relay.http.faults import HeadError
from proxy.relay.http.forwarding import Forwarding
from proxy.relay.http.reader import HeadReader
from proxy.relay.http.response import CHUNKED, ResponseReader
from proxy.settings import LimitSettings
from tests.relay.raw.peers import get, message

READER = HeadReader(LimitSettings())
STRANGER = Forwarding(b"1.2.3.4", trusted=False)
FRONT = Forwarding(b"1.2.3.4", trusted=True)


def sent(data: bytes, peer: Forwarding = STRANGER) -> bytes:
    head = READER.read(data)
    assert head is not None
    return head.forward(peer, b"1", upstream=True)


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET http://a/x?y HTTP/1.1", b"/x?y"),
        (b"GET HTTP://A HTTP/1.1", b"/"),
        (b"GET http://a?x HTTP/1.1", b"/?x"),
        (b"GET http://a//api/init HTTP/1.1", b"//api/init"),
        (b"GET http://a/api/init HTTP/1.1", b"/api/init"),
        (b"OPTIONS http://a HTTP/1.1", b"*"),
        (b"GET http://a/x HTTP/1.3", b"/x"),
    ],
)
def test_target_in_absolute_form_is_judged_and_goes_on_as_its_path(
    line: bytes, target: bytes
) -> None:
    data = message(line, b"Host: a")
    head = READER.read(data)
    assert head is not None
    assert head.target == target
    method = line.partition(b" ")[0]
    assert sent(data).startswith(method + b" " + target + b" HTTP/1.1\r\nHost: a\r\n")


@pytest.mark.parametrize("authority", [b"b", b"a:80", b"x@a", b"", b"a.", b"a%2e"])
def test_target_of_another_host_is_refused(authority: bytes) -> None:
    with pytest.raises(HeadError):
        READER.read(message(b"GET http://" + authority + b"/ HTTP/1.1", b"Host: a"))


def test_later_minor_version_goes_on_as_ours() -> None:
    assert sent(message(b"GET /x HTTP/1.2", b"Host: a")).startswith(b"GET /x HTTP/1.1\r\n")


@pytest.mark.parametrize("zeros", [40, 5000])
def test_length_with_very_many_zeros_goes_on_without_them(zeros: int) -> None:
    data = message(b"POST / HTTP/1.1", b"Host: a", b"Content-Length: " + b"0" * zeros + b"7")
    head = READER.read(data)
    assert head is not None
    assert head.length == 7
    assert b"\r\nContent-Length: 7\r\n" in sent(data)


@pytest.mark.parametrize(
    "coding",
    [b"\tchunked", b"chunked\t", b"chunked,", b" ,chunked", b", ,\tchunked , ", b"CHUNKED"],
)
def test_coding_goes_on_in_its_usual_spelling(coding: bytes) -> None:
    data = message(b"POST / HTTP/1.1", b"Host: a", b"Transfer-Encoding:" + coding)
    head = READER.read(data)
    assert head is not None
    assert head.length == CHUNKED
    assert b"\r\nTransfer-Encoding: chunked\r\n" in sent(data)


def test_chunks_go_on_without_blanks_and_zeros() -> None:
    body = RequestBody(CHUNKED)
    lines = b"1 ;a\r\nx\r\n1\t ;b\r\ny\r\n" + b"0" * 40 + b"2\r\nzz\r\n0\r\n\r\n"
    assert body.take(lines) == (b"4\r\nxyzz\r\n0\r\n\r\n", b"")


def test_method_longer_than_any_is_not_implemented() -> None:
    with pytest.raises(HeadError) as caught:
        READER.read(message(b"M" * 65 + b" / HTTP/1.1", b"Host: a"))
    assert caught.value.status == 501


CLAIMS = (
    b"Forwarded: for=6.6.6.6",
    b"X-Real-IP: 6.6.6.6",
    b"X-Forwarded-Port: 6",
    b"x_forwarded_server: six",
    b"X-Forwarded-For: 6.6.6.6",
)


@pytest.mark.parametrize("connection", [(), (b"Connection: forwarded, x-real-ip",)])
def test_what_a_stranger_says_of_its_client_ends_here(connection: tuple[bytes, ...]) -> None:
    out = sent(get(b"/", b"A: 1", *CLAIMS, *connection, b"B: 2"))
    assert b"6" not in out
    assert b"six" not in out
    assert b"\r\nHost: a\r\nA: 1\r\nB: 2\r\nX-Forwarded-For: 1.2.3.4\r\n" in out


def test_what_a_trusted_proxy_says_of_its_client_goes_on() -> None:
    out = sent(get(b"/", *CLAIMS), FRONT)
    assert all(b"\r\n" + claim + b"\r\n" in out for claim in CLAIMS[:-1])
    assert b"\r\nX-Forwarded-For: 6.6.6.6, 1.2.3.4\r\n" in out


def test_empty_elements_of_a_response_coding_do_not_count() -> None:
    data = message(b"HTTP/1.1 200 OK", b"Transfer-Encoding: chunked, ,")
    framing = ResponseReader(65536).read(data, bodiless=False, old=False)
    assert framing is not None
    assert framing.length == CHUNKED


@pytest.mark.parametrize("method", [b"OPTIONS", b"TRACE"])
def test_forwards_are_counted_down(method: bytes) -> None:
    data = message(method + b" / HTTP/1.1", b"Host: a", b"Max-Forwards: 7")
    assert b"\r\nMax-Forwards: 6\r\n" in sent(data)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([b"Max-Forwards: 0"], 405),
        ([b"max-forwards:\t00 "], 405),
        ([b"Max-Forwards: x"], 400),
        ([b"Max-Forwards: 1", b"Max-Forwards: 2"], 400),
    ],
)
def test_a_request_ends_here_when_it_may_go_no_further(fields: list[bytes], status: int) -> None:
    with pytest.raises(HeadError) as caught:
        READER.read(message(b"TRACE / HTTP/1.1", b"Host: a", *fields))
    assert caught.value.status == status


def test_forwards_of_other_methods_are_not_counted() -> None:
    assert b"\r\nMax-Forwards: 0\r\n" in sent(get(b"/", b"Max-Forwards: 0"))


def test_the_upstream_is_told_of_the_client_in_forwarded_where_it_is_wanted() -> None:
    told = b"\r\nForwarded: for=1.2.3.4;proto=http;host="
    stranger = Forwarding(b"1.2.3.4", trusted=False, forwarded=True)
    assert sent(get(b"/", b"Forwarded: for=6.6.6.6"), stranger).count(b"Forwarded: for=") == 1
    assert told + b'"a"\r\n' in sent(get(b"/"), stranger)
    assert b"\r\nForwarded: " not in sent(get(b"/"))


def test_what_a_trusted_proxy_says_in_forwarded_comes_before_what_we_say() -> None:
    front = Forwarding(b"fd00::1", trusted=True, forwarded=True)
    said = b"Forwarded: for=6.6.6.6;proto=https"
    out = sent(get(b"/", said, b"X-Forwarded-Proto: https"), front)
    assert out.index(said) < out.index(b'\r\nForwarded: for="[fd00::1]";proto=http;host="a"\r\n')


def test_a_client_on_a_unix_socket_is_unknown_in_forwarded() -> None:
    out = sent(get(b"/"), Forwarding(b"", trusted=False, forwarded=True))
    assert b"\r\nForwarded: for=unknown;proto=http" in out


def test_length_of_a_response_may_have_very_many_zeros() -> None:
    head = message(b"HTTP/1.1 200 OK", b"Content-Length: " + b"0" * 5000 + b"7")
    framing = ResponseReader(65536).read(head, bodiless=False, old=False)
    assert framing is not None
    assert framing.length == 7
