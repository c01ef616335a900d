"""A second, plain reading of HTTP/1 requests, which shares nothing with the relay's."""

from __future__ import annotations

from dataclasses import dataclass, field

HOP = {
    b"connection",
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"transfer-encoding",
    b"upgrade",
    b"x-init-api-key",
    b"x_init_api_key",
    b"x-forwarded-for",
    b"x-forwarded-proto",
    b"x-forwarded-host",
    b"x_forwarded_for",
    b"forwarded",
    b"x-real-ip",
    b"x_real_ip",
    b"x-forwarded-port",
    b"x_forwarded_prefix",
}


@dataclass
class Request:
    """One request; header and trailer values keep the white space around them."""

    line: bytes
    fields: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def get(self, name: bytes) -> list[bytes]:
        return [value.strip(b" \t") for key, value in self.fields if key.lower() == name]

    def end_to_end(self) -> list[tuple[bytes, bytes]]:
        """The fields that a proxy must leave as they are."""
        named = {part.strip().lower() for part in b",".join(self.get(b"connection")).split(b",")}
        return [pair for pair in self.fields if pair[0].lower() not in HOP | named]


def fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    pairs = []
    for line in lines:
        name, colon, value = line.partition(b":")
        assert colon
        assert name
        assert name.strip(b" \t") == name
        pairs.append((name, value))
    return pairs


def read(data: bytes) -> tuple[Request, bytes]:
    """The request that `data` begins with, and the rest; `ValueError` while it is not whole."""
    head, _, rest = _split(data, b"\r\n\r\n")
    line, *lines = head.split(b"\r\n")
    request = Request(line, fields(lines))
    lengths = request.get(b"content-length")
    if request.get(b"transfer-encoding"):
        assert not lengths
        assert [v.lower() for v in request.get(b"transfer-encoding")] == [b"chunked"]
        return request, _chunks(request, rest)
    size = int(lengths[0]) if lengths else 0
    if len(rest) < size:
        raise ValueError
    request.body = rest[:size]
    return request, rest[size:]


def _chunks(request: Request, data: bytes) -> bytes:
    while True:
        line, _, data = _split(data, b"\r\n")
        size = int(line.partition(b";")[0].strip(), 16)
        if not size:
            break
        if len(data) < size + 2:
            raise ValueError
        assert data[size : size + 2] == b"\r\n"
        request.body += data[:size]
        data = data[size + 2 :]
    while True:
        line, _, data = _split(data, b"\r\n")
        if not line:
            return data
        request.trailers += fields([line])


def _split(data: bytes, end: bytes) -> tuple[bytes, bytes, bytes]:
    before, found, after = data.partition(end)
    if not found:
        raise ValueError
    return before, found, after
