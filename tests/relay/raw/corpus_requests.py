# ruff: noqa: E501  tables of raw bytes read better in few long lines
"""Raw requests: those that must arrive unchanged, and those that must not arrive.

A case is what a client sends; a refused one comes with the status that it is refused with.
"""

from __future__ import annotations

from typing import Final

from tests.relay.raw.peers import get, message

CHUNKED: Final = b"Transfer-Encoding: chunked"


def post(*fields: bytes, body: bytes = b"") -> bytes:
    return message(b"POST /p HTTP/1.1", b"Host: a", *fields, body=body)


_METHODS = b"GET HEAD POST PUT DELETE PATCH OPTIONS TRACE PURGE get X-1 M!#$%&'*+.^_`|~".split()

_TARGETS = [
    b"/", b"//", b"/?", b"/??", b"/a?", b"/a?b?c", b"/a//b", b"/./a/../b", b"/%", b"/%zz", b"/%2F%2f",
    b"/%00", b"/a;b=c", b"/a:b@c", b"/[]", b'/{}|\\^`"<>', b"/+%20",
    b"/a?x=http://b/c", b"/api/init/", b"//api/init", b"/api//init", b"/api/%69nit", b"/API/INIT",
    b"/api/init;x", b"/health/", b"/ready.", b"/" + b"a" * 8000, b"/http://b/", b"/*", b"/~._-!$&'()*+,=",
]  # fmt: skip

_FIELDS = [
    b"X:", b"X: ", b"X:\t", b"X:v", b"X: v ", b"X:\t v\t ", b"X: \xff\xfe\x80", b"X: a\tb", b"X: :",
    b"x-lower: 1", b"X-UPPER: 1", b"!#$%&'*+-.^_`|~0: odd", b"X_Under: 1", b"Accept: */*, text/html;q=0.5",
    b'Cookie: a=b; c="d e"', b"Authorization: Bearer x.y-z", b'Content-Type: a/b; charset="utf-8"',
    b"Via: 1.1 x", b"Max-Forwards: 0", b"Date: now",
    b"Trailer: X", b"Accept-Encoding: gzip, br", b"Range: bytes=0-1,3-", b"If-None-Match: *",
    b"Expect: 200-ok", b"Content-Length: 0", b"Content-Length:0", b"Content-Length: \t0 ",
    b"Content-Length: 000", b"X: " + b"v" * 16000, b"Sec-WebSocket-Key: x", b"Origin: null",
    b"Content_Length: 5", b"Transfer_Encoding: chunked", b"X-Transfer-Encoding: x", b"HostX: b", b"XHost: b",
    b'X: "quoted, \\" string"', b"X: (comment)", b"Proxy-Authorization: Basic eA==",
]  # fmt: skip

_DROPPED = [
    b"Connection: keep-alive", b"Connection: Keep-Alive, x-a\r\nX-A: 1", b"Connection: x-b\r\nx-B: 1\r\nX-b: 2",
    b"Connection:", b"Connection: ,,", b"Connection: upgrade", b"Keep-Alive: timeout=5", b"TE: trailers",
    b"Connection: TE\r\nTE: gzip", b"Proxy-Connection: keep-alive", b"Upgrade: websocket", b"Upgrade: h2c",
    b"Connection: upgrade\r\nUpgrade: h2c", b"X-Forwarded-For: 6.6.6.6", b"X-Forwarded-Proto: https",
    b"Forwarded: for=1.2.3.4", b"X-Real-IP: 1.2.3.4", b"x_real_ip: 1.2.3.4", b"X-Forwarded-Port: 1", b"X_Forwarded_Prefix: /x",
    b"X-Forwarded-Host: evil", b"x_forwarded_for: 6.6.6.6", b"X-Init-API-Key: secret", b"x-INIT-api-KEY:secret",
    b"X_Init_Api_Key: secret", b"X-Forwarded-For: 1\r\nX: y\r\nX-Forwarded-For: 2",
    b"Connection: close", b"Connection: a\r\nX: y\r\nConnection: b", b"Connection: x-init-api-key\r\nX-Init-API-Key: s",
    b"Connection: x-forwarded-for\r\nX-Forwarded-For: s", b"Connection: keep-alive\r\nConnection: keep-alive",
]  # fmt: skip

_HOSTS = [
    b"a", b"a.b.c", b"a:80", b"a:", b"", b"127.0.0.1:8000", b"[::1]", b"[::1]:80", b"A-b_c~d", b"a%20b",
    b"xn--bcher-kva.example", b"a.", b"[fe80::1%25eth0]:1",
]  # fmt: skip

_BODIES = [
    post(b"Content-Length: 5", body=b"hello"),
    post(b"content-LENGTH:5", body=b"\x00\r\n\r\n"),
    post(b"Content-Length: 0005", body=b"hello"),
    post(b"Content-Length: 70000", body=b"x" * 70000),
    post(b"Content-Length: 27", body=get(b"/")),
    post(CHUNKED, body=b"0\r\n\r\n"),
    post(CHUNKED, body=b"5\r\nhello\r\n0\r\n\r\n"),
    post(b"transfer-encoding:CHUNKED", body=b"5\r\nhello\r\n00\r\n\r\n"),
    post(b"Transfer-Encoding:  chunked  ", body=b"5\r\nhello\r\n0\r\n\r\n"),
    post(CHUNKED, body=b"1\r\na\r\n2\r\nbc\r\n00000003\r\ndef\r\n0\r\n\r\n"),
    post(CHUNKED, body=b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
    post(CHUNKED, body=b'1;a\r\nx\r\n1;b=c\r\ny\r\n1;d="e f"\r\nz\r\n0;last\r\n\r\n'),
    post(CHUNKED, body=b"0\r\nX-Trailer: 1\r\nx-other:2\r\n\r\n"),
    post(CHUNKED, b"Trailer: X", body=b"4\r\n\r\n\r\n\r\n0\r\nX: \xff\r\n\r\n"),
    post(CHUNKED, body=b"1\r\nx\r\n" * 3000 + b"0\r\n\r\n"),
    post(CHUNKED, body=b"11170\r\n" + b"y" * 70000 + b"\r\n0\r\n\r\n"),
    message(b"GET /g HTTP/1.1", b"Host: a", b"Content-Length: 2", body=b"ok"),
    message(b"DELETE /d HTTP/1.1", b"Host: a", CHUNKED, body=b"2\r\nok\r\n0\r\n\r\n"),
    message(b"POST /p HTTP/1.0", b"Content-Length: 2", body=b"ok"),
    message(
        b"POST /p HTTP/1.0", b"Host: a", b"Content-Length: 2", b"Connection: keep-alive", body=b"ok"
    ),
]

ACCEPTED: Final[list[bytes]] = [
    *(message(method + b" /m HTTP/1.1", b"Host: a") for method in _METHODS),
    *(get(target) for target in _TARGETS),
    *(get(b"/f", field) for field in _FIELDS),
    *(get(b"/f", b"A: 1", field, b"Z: 2", b"a: 3") for field in _FIELDS[:12]),
    *(get(b"/d", b"A: 1", field, b"Z: 2") for field in _DROPPED),
    *(message(b"GET /h HTTP/1.1", b"Host: " + host) for host in _HOSTS),
    *_BODIES,
    message(b"OPTIONS * HTTP/1.1", b"Host: a"),
    message(b"GET / HTTP/1.0"),
    message(b"GET / HTTP/1.0", b"Host: a"),
    message(b"GET / HTTP/1.1", b"A: 1", b"Host: a"),
    message(b"GET / HTTP/1.1", b"hOST:a"),
    b"\r\n" + get(b"/"),
    b"\r\n\r\n\r\n" + get(b"/"),
    get(b"/many", *(b"X-%d: %d" % (i, i) for i in range(127))),
    get(b"/same", *[b"X: same"] * 100),
]

_ENDS = [b"\n", b"\r", b"\r\r\n", b"\n\r", b"\x0b\r\n", b"\x0c\r\n", b"\x00\r\n", b"\x85\n"]
_CONTROLS = [bytes([byte]) for byte in [*range(9), *range(11, 13), *range(14, 32), 127]]

REFUSED: Final[list[tuple[int, bytes]]] = [
    # The line.
    *((400, b"GET / HTTP/1.1" + end + b"Host: a\r\n\r\n") for end in _ENDS),
    *((400, b"GET /" + bad + b" HTTP/1.1\r\nHost: a\r\n\r\n") for bad in [*_CONTROLS, b" ", b"\t", b"#", b"#x"]),
    *((400, b"G" + bytes([bad]) + b"T / HTTP/1.1\r\nHost: a\r\n\r\n") for bad in b'()<>@,;:"/[]?={}\\\x7f\xff'),
    (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /  HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n"),
    (400, b" GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\r\nHost: a\r\n\r\n"),
    (400, b"GET\r\n\r\n"),
    (400, b"/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / http/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/11\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/1.10\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTP/01.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / HTTPS/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET / ICE/1.0\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/0.9\r\nHost: a\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (505, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 100),
    (400, b"\x00"),
    (400, b"{}"),
    (400, b"<xml/>\r\n\r\n"),
    (400, b"\n" + get(b"/")),
    (400, b"\r" + get(b"/")),
    (501, b"A" * 65 + b" / HTTP/1.1\r\nHost: a\r\n\r\n"),
    # The target.
    *((400, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n\r\n") for target in [
        b"http://b/", b"http://a:80/", b"http://u@a/", b"http://", b"http:/a", b"http://a#x", b"https://a/", b"a:80", b"a", b"?", b"?a=b", b"*", b"**", b"*/", b"\\",
        b"../a", b".", b"%2f", b"@a/", b"file:///etc/passwd", b";", b"\xff/", b"/\xff", b"/\xc3\xa9", b"/?\x80",
    ]),
    (400, b"POST * HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (405, b"CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (414, get(b"/" + b"a" * 16384)),
    (414, b"GET /" + b"a" * 70000),
    # Header lines.
    *((400, b"GET / HTTP/1.1\r\nHost: a" + end + b"X: y\r\n\r\n") for end in _ENDS if end[:1] != b"\x85"),
    *((400, get(b"/", b"X: a" + bad + b"b")) for bad in _CONTROLS),
    *((400, get(b"/", b"X" + bad + b"Y: 1")) for bad in [*_CONTROLS, b" ", b"\t", b"(", b"/", b"@", b"\x80", b"\xff"]),
    (400, get(b"/", b"X : 1")),
    (400, get(b"/", b"X\t: 1")),
    (400, get(b"/", b" X: 1")),
    (400, get(b"/", b"\tX: 1")),
    (400, get(b"/", b": 1")),
    (400, get(b"/", b"X")),
    (400, get(b"/", b"X: 1", b" folded")),
    (400, get(b"/", b"X: 1", b"\tfolded")),
    (400, get(b"/", b"X:", b"  folded")),
    (400, b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    (400, b"GET / HTTP/1.1\n\nHost: a\r\n\r\n"),
    (431, get(b"/", *(b"X-%d: %d" % (i, i) for i in range(128)))),
    (431, get(b"/", b"X: " + b"v" * 66000)),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"v" * 70000),
    # Host.
    (400, b"GET / HTTP/1.1\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\nX: y\r\n\r\n"),
    (400, get(b"/", b"Host: a")),
    (400, get(b"/", b"host: b")),
    (400, message(b"GET / HTTP/1.0", b"Host: a", b"Host: b")),
    *((400, message(b"GET / HTTP/1.1", b"Host: " + host)) for host in [
        b"a b", b"a, b", b"a/b", b"a@b", b"a?b", b"a#b", b"a\\b", b"http://a", b"a:b", b"a:80:80", b"a:999999",
        b"[::1", b"::1", b"[::1]x", b"<a>", b'a"b', b"\xff", b"a\tb", b"[]", b"a:-1", b"a{b}", b"a|b",
    ]),
    # Framing.
    *((400, post(b"Content-Length: " + value, body=b"hello")) for value in [
        b"", b"-5", b"+5", b"5 5", b"5,5", b"5, 5", b"0x5", b"5.0", b"5e0", b"five", b"5\t5", b"\xb2", b"'5'", b"5;",
        b"1" * 19, b"18446744073709551617", b"5_0", b"5a",
    ]),
    (400, post(b"Content-Length: 5", b"Content-Length: 5", body=b"hello")),
    (400, post(b"Content-Length: 5", b"content-length: 6", body=b"hello!")),
    (400, post(b"Content-Length: 5", CHUNKED, body=b"0\r\n\r\n")),
    (400, post(CHUNKED, b"Content-Length: 5", body=b"0\r\n\r\n")),
    (400, post(CHUNKED, b"Content-Length: 0", body=b"0\r\n\r\n")),
    (400, post(b"Content-Length: 5", b"Transfer-Encoding:", body=b"hello")),
    (400, post(CHUNKED, CHUNKED, body=b"0\r\n\r\n")),
    (400, post(CHUNKED, b"Transfer-Encoding: identity", body=b"0\r\n\r\n")),
    *((400, post(b"Transfer-Encoding: " + value, body=b"0\r\n\r\n")) for value in [
        b"", b"identity", b"xchunked", b"chunkedx", b"chunked;q=1", b'"chunked"', b",", b",chunked x",
        b"chunked, identity", b"chunked, gzip", b"gzip", b"deflate", b"x", b"chunke", b"chunked\xa0",
        b"c\thunked",
    ]),
    (501, post(b"Transfer-Encoding: gzip, chunked", body=b"0\r\n\r\n")),
    (501, post(b"Transfer-Encoding: chunked, chunked", body=b"0\r\n\r\n")),
    (400, message(b"POST / HTTP/1.0", b"Host: a", CHUNKED, body=b"0\r\n\r\n")),
    *((400, post(b"Connection: " + option, body=b"")) for option in [
        b"host", b"content-length", b"transfer-encoding", b"close, Host", b"a b", b'"x"', b"x;y", b"@",
    ]),
    # Chunks that are broken where the request is read, so nothing of it has left.
    *((400, post(CHUNKED, body=body)) for body in [
        b"\r\n\r\n", b"g\r\n", b"-1\r\n", b"+1\r\n", b" 1\r\nx\r\n", b"0x1\r\nx\r\n", b"1\nx\r\n0\r\n\r\n", b"1\r\nx\n0\r\n\r\n",
        b"1\r\nxy\r\n0\r\n\r\n", b"2\r\nx\r\n0\r\n\r\n", b"1\r\nx0\r\n\r\n", b"1 1\r\nx\r\n", b"1\t\r\nx\r\n", b"1 ;\x00\r\nx\r\n", b"1\x0b;a\r\nx\r\n", b"1 a;b\r\nx\r\n", b"1,1\r\nx\r\n",
        b"1;\x00\r\nx\r\n", b"1;a\rb\r\nx\r\n", b"1;a\nb\r\nx\r\n", b"\r\n1\r\nx\r\n", b";\r\n", b"1\r\rx\r\n", b"f" * 16 + b"\r\n",
        b"1" + b"0" * 20 + b"\r\n", b"0\r\n bad: 1\r\n\r\n", b"0\r\nbad\r\n\r\n", b"0\r\nX : 1\r\n\r\n", b"0\r\nX: \x00\r\n\r\n",
        b"0\r\nX: 1\n\r\n", b"0\r\nX: 1\r\n folded\r\n\r\n", b"0\n\r\n", b"1;" + b"x" * 5000 + b"\r\nx\r\n",
        b"0\r\n" + b"X: " + b"y" * 20000 + b"\r\n\r\n",
    ]),
]  # fmt: skip
