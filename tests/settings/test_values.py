"""Addresses and URLs are parsed once, and written back as they were read."""

from __future__ import annotations

import pytest

from proxy.settings import TcpAddress, UnixAddress
from proxy.settings.addresses import parse_address, parse_url


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.0.0.0:8000", TcpAddress("0.0.0.0", 8000)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("[::1]:80", TcpAddress("::1", 80)),
        ("unix:/run/p.sock", UnixAddress("/run/p.sock")),
    ],
)
def test_addresses_are_written_back_as_they_were_read(
    text: str, expected: TcpAddress | UnixAddress
) -> None:
    assert parse_address(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    ("text", "base", "path", "written"),
    [
        ("http://127.0.0.1:18000", "http://127.0.0.1:18000", None, "http://127.0.0.1:18000"),
        ("HTTP://agent", "http://agent:80", None, "http://agent:80"),
        ("http://[::1]/", "http://[::1]:80", None, "http://[::1]:80"),
        ("http://[::1]:81/", "http://[::1]:81", None, "http://[::1]:81"),
        ("http+unix:///run/a.sock", "http://localhost", "/run/a.sock", "http+unix:///run/a.sock"),
    ],
)
def test_urls(text: str, base: str, path: str | None, written: str) -> None:
    url = parse_url(text)
    assert (url.base, url.socket_path, str(url)) == (base, path, written)
    assert parse_url(written) == url
