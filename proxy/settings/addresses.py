"""Where somebody listens: addresses and the upstream's URL, parsed once and written back the same.

The parsers raise `ValueError` with what is wrong and what would be right, never with the value:
whoever reports the fault knows whether it may be shown.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Any, Final

# sockaddr_un.sun_path is 108 bytes with its terminating NUL (unix(7)).
_UNIX_PATH_BYTES: Final = 107

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_ADDRESS_FORMS: Final = "host:port, [v6]:port or unix:/path"
_URL_FORMS: Final = "http://host:port or http+unix:///path"


@dataclass(frozen=True)
class TcpAddress:
    """`host:port`; `host` is without the brackets of an IPv6 literal."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        """Whether only this machine (in a pod: only this pod) can connect."""
        if self.host.lower() == "localhost":
            return True
        try:
            address = ipaddress.ip_address(self.host)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None)
        return (mapped or address).is_loopback

    @property
    def named(self) -> bool:
        """Whether the host has to be looked up."""
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def wildcard(self) -> bool:
        """Whether it stands for every address of the machine."""
        try:
            return ipaddress.ip_address(self.host).is_unspecified
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixAddress:
    """`unix:/path`."""

    path: str
    named = False

    @property
    def loopback(self) -> bool:
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class ServerUrl:
    """Where a server listens: `http://host:port` or `http+unix:///path`, without a path in it."""

    address: TcpAddress | UnixAddress

    @property
    def base(self) -> str:
        """What an HTTP client puts before a path; the host of a Unix socket means nothing."""
        if isinstance(self.address, UnixAddress):
            return "http://localhost"
        return f"http://{self.address}"

    @property
    def socket_path(self) -> str | None:
        return self.address.path if isinstance(self.address, UnixAddress) else None

    def __str__(self) -> str:
        if isinstance(self.address, UnixAddress):
            return f"http+unix://{self.address.path}"
        return self.base


def require_text(value: Any, forms: str) -> str:
    """The value if it is text; `forms` names what it should be."""
    if not isinstance(value, str):
        raise ValueError(f"must be {forms}, as text")  # noqa: TRY004  pydantic collects ValueErrors
    return value


def _socket_path(path: str) -> UnixAddress:
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("a Unix socket needs an absolute path to a file")
    if "\0" in path:
        raise ValueError("a path cannot contain NUL")
    try:
        size = len(path.encode())
    except UnicodeEncodeError:
        raise ValueError("a path must be valid UTF-8") from None
    if size > _UNIX_PATH_BYTES:
        raise ValueError(
            f"the path has {size} bytes, a Unix socket's may have {_UNIX_PATH_BYTES} at most"
        )
    return UnixAddress(path)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and int(text) <= 65_535):
        raise ValueError("the port must be a number from 0 to 65535")
    return int(text)


def _host(text: str) -> str:
    if text == "*":
        raise ValueError("'*' is no host; [::] stands for every address, 0.0.0.0 for IPv4")
    if not _HOST_NAME.fullmatch(text):
        raise ValueError("the host must be a name or an IP address")
    if re.fullmatch(r"[0-9.]+", text):
        try:
            ipaddress.IPv4Address(text)
        except ValueError:
            raise ValueError("the host is not an IPv4 address") from None
    return text


def _tcp(text: str) -> TcpAddress:
    host, separator, port = text.rpartition(":")
    if not separator:
        raise ValueError(f"the port is missing; must be {_ADDRESS_FORMS}")
    if not host:
        raise ValueError(
            "the host is missing; [::] stands for every address, 0.0.0.0 for those of IPv4"
        )
    if host.startswith("[") and host.endswith("]"):
        try:
            return TcpAddress(str(ipaddress.IPv6Address(host[1:-1])), _port(port))
        except ipaddress.AddressValueError:
            raise ValueError("the host in brackets is not an IPv6 address") from None
    if ":" in host:
        raise ValueError("an IPv6 address goes in brackets: [::1]:8000")
    return TcpAddress(_host(host), _port(port))


def parse_address(value: Any) -> TcpAddress | UnixAddress:
    """Read `host:port`, `[v6]:port` or `unix:/path`."""
    if isinstance(value, TcpAddress | UnixAddress):
        return value
    text = require_text(value, _ADDRESS_FORMS)
    if "://" in text:
        raise ValueError(f"must be {_ADDRESS_FORMS}, without a scheme")
    if text.startswith("unix:"):
        return _socket_path(text.removeprefix("unix:"))
    if text.startswith("/"):
        raise ValueError("a Unix socket is written unix:/path")
    return _tcp(text)


def _check_authority(rest: str) -> str:
    authority, slash, path = rest.partition("/")
    if "?" in rest or "#" in rest:
        raise ValueError("must not have a query or fragment")
    if slash and path:
        raise ValueError("must not have a path: requests keep their own")
    if not authority:
        raise ValueError("the host is missing")
    return authority


def parse_url(value: Any) -> ServerUrl:
    """Read `http://host[:port]` (port 80 when left out) or `http+unix:///path`."""
    if isinstance(value, ServerUrl):
        return value
    text = require_text(value, _URL_FORMS)
    scheme, separator, rest = text.partition("://")
    scheme = scheme.lower()
    if not separator:
        raise ValueError(f"must be {_URL_FORMS}")
    if scheme == "https":
        raise ValueError("https is not spoken to an upstream in the same pod; use http://")
    if "@" in rest.partition("/")[0]:
        raise ValueError("must not have a user or password")
    if scheme == "http+unix":
        if "%2f" in rest[:3].lower():
            raise ValueError("the socket's path is written plainly: http+unix:///run/x.sock")
        return ServerUrl(_socket_path(rest))
    if scheme != "http":
        raise ValueError(f"must be {_URL_FORMS}")
    authority = _check_authority(rest)
    bare = authority.rpartition(":")[0] == "" or authority.endswith("]")
    address = _tcp(f"{authority}:80" if bare else authority)
    if address.port == 0:
        raise ValueError("the port must be a number from 1 to 65535")
    return ServerUrl(address)
