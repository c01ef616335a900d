# ruff: noqa: E501  tables of raw bytes read better in few long lines
"""Raw responses of an upstream, which closes (or resets) after them.

`SAME` must reach the client as they would directly, with the same end. `BAD` must become a 502.
`CUT` are good at first: the client gets the beginning that is given, and a connection that ends.
"""

from __future__ import annotations

from typing import Final

from tests.relay.raw.peers import message


def ok(*fields: bytes, body: bytes = b"") -> bytes:
    return message(b"HTTP/1.1 200 OK", *fields, body=body)


_LENGTH = b"Content-Length: 5"
_CHUNKED = b"Transfer-Encoding: chunked"
_CONTINUE = message(b"HTTP/1.1 100 Continue")
_HINTS = message(b"HTTP/1.1 103 Early Hints", b"Link: </a>", b"Link: </b>")

SAME: Final[list[bytes]] = [
    *(message(b"HTTP/1.1 " + status, b"Content-Length: 0") for status in [
        b"200 OK", b"200", b"200 ", b"200  two", b"201 \xc3\xa9", b"299 \xff\xfe", b"400 a\tb", b"404 Not Found",
        b"418 I'm", b"500 Oops", b"599 x", b"600 x", b"999 x", b"200 HTTP/1.1 200 OK",
    ]),
    ok(_LENGTH, body=b"hello"),
    ok(b"content-length:5", body=b"hello"),
    ok(b"CONTENT-LENGTH: \t 5 ", body=b"\x00\r\n\r\n"),
    ok(b"Content-Length: 0005", body=b"hello"),
    ok(_LENGTH, body=b"hel"),
    ok(_LENGTH),
    ok(b"Content-Length: 100000", body=b"x" * 100000),
    ok(b"Content-Length: 100000", body=b"x" * 99999),
    ok(),
    ok(body=b"until the end"),
    ok(body=b"x" * 100000),
    ok(b"Connection: close", body=b"until the end"),
    ok(b"Connection: close", _LENGTH, body=b"hello"),
    ok(b"Connection: keep-alive", b"Keep-Alive: timeout=5", _LENGTH, body=b"hello"),
    message(b"HTTP/1.0 200 OK", _LENGTH, body=b"hello"),
    message(b"HTTP/1.0 200 OK", body=b"hello"),
    message(b"HTTP/1.0 200 OK", _CHUNKED, body=b"1\r\nx\r\n0\r\n\r\n"),
    ok(_CHUNKED, body=b"0\r\n\r\n"),
    ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    ok(b"transfer-encoding: Chunked", body=b"5\r\nhello\r\n000\r\n\r\n"),
    ok(_CHUNKED, body=b"5;ext=1\r\nhello\r\n0;last\r\nX: 1\r\nY: \xff\r\n\r\n"),
    ok(_CHUNKED, body=b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"),
    ok(_CHUNKED, body=b"186a0\r\n" + b"x" * 100000 + b"\r\n0\r\n\r\n"),
    ok(_CHUNKED, body=b"5\r\nhel"),
    ok(_CHUNKED, body=b"5\r\nhello"),
    ok(_CHUNKED, body=b"5\r\nhello\r\n"),
    ok(_CHUNKED, body=b"5\r\nhello\r\n0"),
    ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\n"),
    ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\nX: 1\r\n"),
    ok(_CHUNKED),
    *(ok(_CHUNKED, body=line + b"\r\nhello\r\n0\r\n\r\n") for line in [
        b"5 ;a=b", b"5  ", b"5\t", b"0" * 30 + b"5", b"5 ; a = b",
    ]),
    ok(_CHUNKED, body=b"5\r\nhello\r\n0\r\n" + b"X: %b\r\n" % (b"y" * 1000) * 30 + b"\r\n"),
    ok(b"Transfer-Encoding: chunked,", body=b"5\r\nhello\r\n0\r\n\r\n"),
    ok(b"Content-Length: " + b"0" * 30 + b"5", body=b"hello"),
    ok(b"Transfer-Encoding: ", _CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    ok(b"Transfer-Encoding: , chunked", body=b"5\r\nhello\r\n0\r\n\r\n"),
    ok(b"Transfer-Encoding: gzip, chunked", body=b"1\r\nx\r\n0\r\n\r\n"),
    ok(b"Transfer-Encoding: gzip", b"Transfer-Encoding: chunked", body=b"1\r\nx\r\n0\r\n\r\n"),
    ok(b"Transfer-Encoding: gzip", body=b"until the end"),
    ok(b"Transfer-Encoding: identity", body=b"until the end"),
    message(b"HTTP/1.1 204 No Content"),
    message(b"HTTP/1.1 204 No Content", _LENGTH),
    message(b"HTTP/1.1 304 Not Modified", _LENGTH),
    message(b"HTTP/1.1 304 Not Modified", _CHUNKED),
    _CONTINUE + ok(_LENGTH, body=b"hello"),
    _CONTINUE + _HINTS + _HINTS + ok(_LENGTH, body=b"hello"),
    message(b"HTTP/1.1 199 Odd", _LENGTH) + ok(_LENGTH, body=b"hello"),
    ok(*[b"Set-Cookie: a=b"] * 50, b"set-cookie: c", b"X:", b"X: ", b"X:\xff", _LENGTH, body=b"hello"),
    ok(b"X: " + b"y" * 60000, _LENGTH, body=b"hello"),
    ok(*(b"X-%d: %d" % (i, i) for i in range(500)), _LENGTH, body=b"hello"),
    ok(b"Upgrade: h2c", b"Connection: Upgrade", _LENGTH, body=b"hello"),
    message(b"HTTP/1.1 426 Upgrade Required", b"Upgrade: x", b"Connection: upgrade", _LENGTH, body=b"hello"),
]  # fmt: skip

BAD: Final[list[bytes]] = [
    b"", b"\x00", b"H", b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n",
    *(line + b"\r\nContent-Length: 0\r\n\r\n" for line in [
        b"HTTP/2 200 OK", b"HTTP/1.2 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.1 20 OK", b"HTTP/1.1 2000 OK", b"HTTP/1.1 -20 OK",
        b"HTTP/1.1 abc OK", b"HTTP/1.1  200 OK", b"HTTP/1.1\t200 OK", b"HTTP/1.1 000 OK", b"HTTP/1.1 099 OK", b"http/1.1 200 OK",
        b"ICY 200 OK", b" HTTP/1.1 200 OK", b"HTTP/1.1 200\x00OK", b"HTTP/1.1 200 O\x00K", b"HTTP/1.1 200 O\rK", b"HTTP/1.1 200 O\x0bK",
        b"HTTP/1.1", b"200 OK", b"GET / HTTP/1.1", b"", b"{}",
    ]),
    *(ok(field, _LENGTH, body=b"hello") for field in [
        b"X : 1", b" X: 1", b": 1", b"X", b"X Y: 1", b"X: \x00", b"X: \x01", b"X: a\rb", b"X: a\nb", b"X: \x7f", b"X: 1\r\n folded",
        b"X\xff: 1", b"X: 1\n", b"X: 1\r", b"Content-Length: 5", b"Content-Length: 6", b"content-length: 5", b"Transfer-Encoding: chunked",
        b"Transfer-Encoding:", b"Transfer-Encoding: gzip",
    ]),
    *(ok(b"Content-Length: " + value, body=b"hello") for value in [
        b"", b"-5", b"+5", b"5, 5", b"5,6", b"0x5", b"5.0", b"five", b"5 5", b"9" * 19, b"5;", b"\xb2",
    ]),
    ok(b"Transfer-Encoding:", body=b"hello"),
    b"\r\n" + ok(_LENGTH, body=b"hello"),
    b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\nhello",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\n\r\nhello",
    b"<html>hello</html>",
    b"\x16\x03\x03\x00\x31\x02\x00",
    message(b"HTTP/1.1 101 Switching Protocols", b"Upgrade: x", b"Connection: upgrade"),
    message(b"HTTP/1.1 101 Switching Protocols"),
    ok(b"X: " + b"y" * 70000, _LENGTH, body=b"hello"),
]  # fmt: skip

_WHOLE = ok(_LENGTH, body=b"hello")
_BEGUN = ok(_CHUNKED, body=b"2\r\nhi\r\n")

CUT: Final[list[tuple[bytes, bytes]]] = [
    (_WHOLE, _WHOLE),  # two responses to one request
    (_WHOLE, b"x"),
    (_WHOLE, b"\r\n"),
    (message(b"HTTP/1.1 204 No Content"), b"body"),
    (message(b"HTTP/1.1 304 Not Modified", _LENGTH), b"hello"),
    (ok(_CHUNKED, body=b"0\r\n\r\n"), b"0\r\n\r\n"),
    *((_BEGUN, bad) for bad in [
        b"g\r\n", b"\r\n", b"-1\r\n", b"3\nabc\r\n", b"3\r\nabcd\r\n", b"3\r\nab\r\n0\r\n", b"1 x\r\nx\r\n", b"0\r\nbad\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n", b"f" * 16 + b"\r\n", b"1;\x00\r\nx\r\n",
    ]),
]  # fmt: skip
