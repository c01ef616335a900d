"""The leaves of the settings that are more than a text or a number: parsed once, typed after.

Every parser takes the value as it came from YAML, JSON or an environment variable, and raises
`ValueError` with a text that names what is wrong and what would be right. None of them repeats the
value: whoever reports the fault knows whether it may be shown.
"""

from __future__ import annotations

import ipaddress
import itertools
import re
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    WithJsonSchema,
)

from proxy.settings.addresses import (
    ServerUrl,
    TcpAddress,
    UnixAddress,
    parse_address,
    parse_url,
    require_text,
)
from proxy.settings.template import Template

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
if TYPE_CHECKING:
    from collections.abc import Iterable

_PRINTABLE_ASCII: Final = re.compile(r"[!-~]+")

_ORIGIN: Final = re.compile(r"\*|null|[A-Za-z*?][A-Za-z0-9+.*?-]*://[!-.0-~]+")
_STATUSES: Final = re.compile(r"([0-9]{3})(?:-([0-9]{3}))?")
_TOKEN: Final = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_.-]+")
_FRAMING: Final = frozenset({"connection", "content-length", "transfer-encoding", "upgrade"})

# A year: longer is a slip (milliseconds, a timestamp), and the event loop's clock stays exact.
_LONGEST: Final = 366 * 86_400.0


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
    text = require_text(value, "an IP address or network, as 10.0.0.0/8,")
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        pass
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError("must be an IP address or network, as 10.0.0.0/8") from None
    raise ValueError(f"has bits set beyond its prefix; the network is {network}")


def parse_template(value: Any) -> Template:
    """Read a text with `{places}`."""
    if isinstance(value, Template):
        return value
    return Template(_sendable(require_text(value, "a template")))


def parse_statuses(value: Any) -> int | str:
    """Read one status, or several that follow each other: `200`, `"200-399"`."""
    forms = 'a status from 200 to 599, or a range as "200-399"'
    if isinstance(value, bool) or not _STATUSES.fullmatch(str(value)):
        raise ValueError(f"must be {forms}")
    found = statuses_of([value])
    if not found or not 200 <= min(found) <= max(found) <= 599:
        raise ValueError(f"must be {forms}")
    return value if len(found) > 1 else min(found)


def statuses_of(values: Iterable[int | str]) -> frozenset[int]:
    """Every status that is meant."""
    bounds = (str(value).partition("-") for value in values)
    ranges = (range(int(first), int(last or first) + 1) for first, _, last in bounds)
    return frozenset(itertools.chain(*ranges))


def parse_pattern(value: Any) -> re.Pattern[str]:
    """Read a regular expression."""
    if isinstance(value, re.Pattern):
        return value
    if not isinstance(value, str) or not value:
        raise ValueError("must be a regular expression, as text")
    try:
        return re.compile(value)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"is no regular expression: {error}") from None


def _header_name(name: str) -> str:
    if not _TOKEN.fullmatch(name):
        raise ValueError("a header's name has letters, digits and - only")
    if name.lower() in _FRAMING:
        raise ValueError(f"{name} is set by whoever sends the request")
    return name


def header_value(value: str) -> str:
    if value != value.strip() or not value.isascii() or not value.isprintable():
        raise ValueError("must be as on a header line: ASCII, no line breaks, no spaces around it")
    return value


def _prefix(path: str) -> str:
    if path and (path.endswith("/") or "?" in path):
        raise ValueError("must be a path without a query and without / at its end, as /-")
    return request_target(path) if path else path


def _query_parameter(name: str) -> str:
    if not _PARAMETER.fullmatch(name):
        raise ValueError("must be a name of letters, digits, _, . and -")
    return name


def _no_bool(value: Any) -> Any:
    # To Python True is 1; to the author of a settings file it is a slip.
    if isinstance(value, bool):
        raise ValueError("must be a number")  # noqa: TRY004  pydantic collects ValueErrors
    return value


def _sendable(text: str) -> str:
    """Text that a kernel call and a JSON line can carry."""
    if "\0" in text:
        raise ValueError("cannot contain NUL")
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("must be valid UTF-8")
    return text


def _env_name(name: str) -> str:
    if not name:
        raise ValueError("the name of a variable cannot be empty")
    if "=" in name:
        raise ValueError("the name of a variable cannot contain '='")
    return _sendable(name)


def module_name(name: str) -> str:
    if not _MODULE.fullmatch(name):
        raise ValueError(f"{name!r} is not a module's name")
    return name


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise ValueError("must be an absolute path")
    return path


def _group(value: Any) -> str | int:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    if not isinstance(text, str) or not text or not text.isprintable():
        raise ValueError("must be the name of a group, or its number")
    if not text.removeprefix("-").isdigit():
        return text
    if not 0 <= (number := int(text)) < 2**32 - 1:
        raise ValueError("must be the name of a group, or its number")
    return number


def _origin(origin: str) -> str:
    if not _ORIGIN.fullmatch(origin):
        raise ValueError("must be as a browser sends it, https://host or https://host:port, or *")
    return origin


def request_target(path: str) -> str:
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
GroupName = Annotated[
    str | int,
    PlainValidator(_group),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 0}]}),
]
Filled = Annotated[
    Template,
    PlainValidator(parse_template),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string"}),
]
# Last in an annotation: the bounds before it are then part of the JSON Schema.
NotBool = BeforeValidator(_no_bool)
Seconds = Annotated[float, Field(gt=0, le=_LONGEST, allow_inf_nan=False), NotBool]
SecondsOrZero = Annotated[float, Field(ge=0, le=_LONGEST, allow_inf_nan=False), NotBool]
Statuses = Annotated[
    int | str,
    PlainValidator(parse_statuses),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 200, "maximum": 599},
                {"type": "string", "pattern": "^[2-5][0-9]{2}(-[2-5][0-9]{2})?$"},
            ]
        }
    ),
]
Pattern = Annotated[
    re.Pattern[str],
    PlainValidator(parse_pattern),
    PlainSerializer(lambda pattern: pattern.pattern, return_type=str),
    WithJsonSchema({"type": "string", "format": "regex", "minLength": 1}),
]
HeaderName = Annotated[str, AfterValidator(_header_name)]
PathPrefix = Annotated[str, AfterValidator(_prefix)]
QueryParameter = Annotated[str, AfterValidator(_query_parameter)]
HeaderValue = Annotated[str, AfterValidator(header_value)]
Text = Annotated[str, AfterValidator(_sendable)]
ModuleName = Annotated[str, AfterValidator(module_name)]
EnvName = Annotated[str, AfterValidator(_env_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute), AfterValidator(_sendable)]
RequestPath = Annotated[str, AfterValidator(request_target)]
Origin = Annotated[str, AfterValidator(_origin)]
