"""The leaves of the settings that are more than a text or a number: parsed once, typed after.

Every parser takes the value as it came from YAML, JSON or an environment variable, and raises
`ValueError` with a text that names what is wrong and what would be right. None of them repeats the
value: whoever reports the fault knows whether it may be shown.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

# sockaddr_un.sun_path is 108 bytes with its terminating NUL (unix(7)).
_UNIX_PATH_BYTES: Final = 107

_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9.])?")
_ADDRESS_FORMS: Final = "host:port, [v6]:port or unix:/path"
_URL_FORMS: Final = "http://host:port or http+unix:///path"
_PRINTABLE_ASCII: Final = re.compile(r"[!-~]+")

# A year: longer is a slip (milliseconds, a timestamp), and the event loop's clock stays exact.
_LONGEST: Final = 366 * 86_400.0


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


def _text(value: Any, forms: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"must be {forms}, as text")  # noqa: TRY004  pydantic collects ValueErrors
    return value


def _socket_path(path: str) -> UnixAddress:
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("a Unix socket needs an absolute path to a file")
    if "\0" in path:
        raise ValueError("a path cannot contain NUL")
    size = len(path.encode("utf-8", "surrogateescape"))
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
        raise ValueError("'*' is no host; 0.0.0.0 stands for every IPv4 address, [::] for all")
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
        raise ValueError("the host is missing; 0.0.0.0 stands for every IPv4 address, [::] for all")
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
    text = _text(value, _ADDRESS_FORMS)
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
    text = _text(value, _URL_FORMS)
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


def parse_mode(value: Any) -> int:
    """Read a file mode: octal digits as text.

    A number is refused. Whether `600` was meant in octal cannot be known, and a guess could open
    a file with secrets to everybody.
    """
    digits = value.lower().removeprefix("0o") if isinstance(value, str) else ""
    if not re.fullmatch(r"0?[0-7]{3}", digits):
        raise ValueError('must be three octal digits as text, as in "0600"')
    mode = int(digits, 8)
    if not mode & 0o400:
        raise ValueError("the owner must be able to read the file")
    return mode


def parse_network(value: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Read an IP address or a network in CIDR notation, host bits clear."""
    if isinstance(value, ipaddress.IPv4Network | ipaddress.IPv6Network):
        return value
    text = _text(value, "an IP address or network, as 10.0.0.0/8,")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or network, as 10.0.0.0/8") from None
    raise ValueError(f"has bits set beyond its prefix; the network is {network}")


def _no_bool(value: Any) -> Any:
    # To Python True is 1; to the author of a settings file it is a slip.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic collects ValueErrors
    return value


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise ValueError("cannot contain NUL")
    return text


def _env_name(name: str) -> str:
    if not name:
        raise ValueError("the name of a variable cannot be empty")
    if "=" in name:
        raise ValueError("the name of a variable cannot contain '='")
    return _no_nul(name)


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


def _target(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must begin with /")
    if not _PRINTABLE_ASCII.fullmatch(path) or "#" in path:
        raise ValueError("must be as on a request line: ASCII, no spaces, no fragment")
    return path


Address = Annotated[
    TcpAddress | UnixAddress,
    PlainValidator(parse_address),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["0.0.0.0:8000", "[::]:8000", "unix:/run/p.s"]}),
]
Url = Annotated[
    ServerUrl,
    PlainValidator(parse_url),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^http(://|\\+unix:///)"}),
]
Network = Annotated[
    ipaddress.IPv4Network | ipaddress.IPv6Network,
    PlainValidator(parse_network),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "examples": ["10.0.0.0/8"]}),
]
Mode = Annotated[
    int,
    PlainValidator(parse_mode),
    PlainSerializer(lambda mode: f"{mode:04o}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": "^(0|0o)?[0-7]{3}$"}),
]
Seconds = Annotated[float, BeforeValidator(_no_bool), Field(gt=0, le=_LONGEST, allow_inf_nan=False)]
SecondsOrZero = Annotated[
    float, BeforeValidator(_no_bool), Field(ge=0, le=_LONGEST, allow_inf_nan=False)
]
Count = Annotated[int, BeforeValidator(_no_bool)]
Status = Annotated[int, BeforeValidator(_no_bool), Field(ge=200, le=599)]
Text = Annotated[str, AfterValidator(_no_nul)]
EnvName = Annotated[str, AfterValidator(_env_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute), AfterValidator(_no_nul)]
RequestPath = Annotated[str, AfterValidator(_target)]
