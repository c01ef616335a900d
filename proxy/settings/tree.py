"""The tree of settings. Attribute names are the keys of the YAML file.

Plain pydantic models; pydantic-settings would cost a dormant pod 16 MB for what `environment.py`
does in a page.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr

from proxy.settings.addresses import TcpAddress
from proxy.settings.mapping import Model
from proxy.settings.upstream import UpstreamSettings
from proxy.settings.values import (
    Address,
    GroupName,
    Mode,
    Network,
    NotBool,
    Origin,
    PathPrefix,
    QueryParameter,
    RequestPath,
    Seconds,
    SecondsOrZero,
)


def _key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    # A blank key is kept: it refuses everybody. Any other must be what a header can carry.
    if text.strip() and (text != text.strip() or not text.isprintable()):
        raise ValueError("has white space around it or control characters, which no header carries")
    return key


class UnixSettings(Model):
    mode: Mode | None = Field(
        default=None, description="Who may connect, as for a file; null: as the umask says."
    )
    group: GroupName | None = Field(default=None, description="Its group, by name or number.")
    trusted: bool = Field(
        default=False,
        description="Believe the forwarding headers of whoever connects, as those of "
        "trusted_proxies.",
    )


class ListenSettings(Model):
    address: Address = Field(
        default=TcpAddress("::", 8000),  # kubelet probes reach the pod's address, of any family
        description="Where clients and the orchestrator connect: host:port, [v6]:port or "
        "unix:/path. [::] is every address, IPv4 and IPv6. Port 0 lets the kernel choose.",
        json_schema_extra={"default": "[::]:8000"},
    )
    admin: Address | None = Field(
        default=TcpAddress("127.0.0.1", 9901),
        description="Where /metrics is served, with /health and /ready, apart from everything "
        "else; null: nowhere.",
        json_schema_extra={"default": "127.0.0.1:9901"},
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose X-Forwarded-* headers are appended to; anybody else's are "
        "replaced.",
    )
    forwarded: bool = Field(
        default=False,
        description="Tell the upstream of the client in Forwarded (RFC 7239) as well.",
    )
    unix: UnixSettings = Field(
        default=UnixSettings(), description="For an address that is a Unix socket."
    )


class InitSettings(Model):
    key: Annotated[SecretStr, AfterValidator(_key)] | None = Field(
        default=None,
        description="What X-Init-API-Key must be (also from OH_SECRET_KEY). A blank key refuses "
        "everybody.",
    )
    allow_without_key: bool = Field(
        default=False,
        description="Start without a key although others can reach the listener: then whoever "
        "reaches it first can claim the pod.",
    )
    timeout: Seconds = Field(
        default=60.0, description="Deadline of a whole activation, in seconds."
    )


class ControlSettings(Model):
    prefix: PathPrefix = Field(
        default="",
        description="What /api/init, /health and /ready begin with, for an upstream that has such "
        "paths of its own: /- makes them /-/api/init and so on.",
    )


class GateSettings(Model):
    hold: SecondsOrZero = Field(
        default=0.0,
        description="Seconds that requests which come while the upstream starts wait for it, to "
        "be relayed instead of refused; 0: they are refused at once.",
    )
    session_keys: Literal["off", "enforce"] = Field(
        default="off",
        description="enforce: for an upstream without authentication of its own, let only those "
        "pass who have one of the delivered session_api_keys, in a header of the usual kinds or a "
        "cookie. Others get 401; CORS preflights, which can carry none, and open_paths pass.",
    )
    strip_session_keys: bool = Field(
        default=False,
        description="Keep the header X-Session-API-Key from the upstream, and with enforce "
        "whatever header had the key.",
    )
    query_parameter: QueryParameter | None = Field(
        default=None,
        description="With enforce: a query parameter that may have the key, for clients that know "
        "no other place. Logs of the upstream may have it then.",
    )
    cors_origins: tuple[Origin, ...] = Field(
        default=(),
        description="Origins whose pages may read what the proxy answers itself, until an init "
        "delivers allow_cors_origins. In them * and ? stand for any text.",
    )
    open_paths: tuple[RequestPath, ...] = Field(
        default=(),
        description="Exact raw paths that are relayed before ready too, and need no session key.",
    )


class DrainSettings(Model):
    delay: SecondsOrZero = Field(
        default=0.0,
        description="Seconds after a stop signal in which /ready is 503 and new work is still "
        "served, for routers that are slow to notice.",
    )
    grace: SecondsOrZero = Field(
        default=30.0,
        description="Seconds that running requests have to end at shutdown; 0: cut at once.",
    )


class LogSettings(Model):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe level that is logged."
    )
    format: Literal["json", "text"] = Field(default="json", description="One record a line.")
    access: Literal["off", "all", "errors"] = Field(
        default="off",
        description="Log every request at its end (all), or those with a status of 400 and more "
        "and those that were cut off (errors). Probes are logged when their answer changes.",
    )


class KeepaliveSettings(Model):
    idle: Annotated[int, Field(ge=1, le=32_767), NotBool] = Field(
        default=60, description="Seconds without a byte after which a peer is probed."
    )
    interval: Annotated[int, Field(ge=1, le=32_767), NotBool] = Field(
        default=15, description="Seconds between two probes."
    )
    count: Annotated[int, Field(ge=1, le=127), NotBool] = Field(
        default=4,
        description="Unanswered probes that end the connection. As long as all of them take may "
        "what was sent stay unacknowledged.",
    )


class LimitSettings(Model):
    head_size: Annotated[int, Field(ge=1024, le=1_048_576), NotBool] = Field(
        default=65_536, description="Bytes of a request's head, and of a response's."
    )
    header_count: Annotated[int, Field(ge=8, le=10_000), NotBool] = Field(
        default=128, description="Headers in one head."
    )
    target_length: Annotated[int, Field(ge=128, le=1_048_576), NotBool] = Field(
        default=16_384, description="Bytes of a request's target (path and query)."
    )
    head_timeout: Seconds = Field(
        default=10.0, description="Seconds in which a head must be complete once it has begun."
    )
    idle_timeout: Seconds = Field(
        default=120.0, description="Seconds a client's connection may be kept without a request."
    )
    connections: Annotated[int, Field(ge=1, le=1_000_000), NotBool] = Field(
        default=10_000,
        description="Client connections at one time, as far as open files allow; over it only "
        "/health, /ready and /api/init are answered.",
    )
    connect_timeout: Seconds = Field(
        default=5.0, description="Seconds in which the upstream must accept a connection."
    )
    half_close: Literal["abort", "answer"] = Field(
        default="abort",
        description="What a client that ends its side of the connection gets when its request is "
        "with the upstream: nothing, as one that has closed it (abort), or its answer.",
    )
    tunnel_idle: Seconds | None = Field(
        default=None,
        description="Seconds after which a WebSocket, or another tunnel, without a byte in either "
        "direction is ended (up to a quarter more); null: never.",
    )
    keepalive: KeepaliveSettings = Field(
        default=KeepaliveSettings(),
        description="TCP keepalive, for peers that have gone without a word.",
    )


class Settings(Model):
    """The whole tree. `load_settings` makes it, and alone applies the rules between keys."""

    deferred_init: bool = Field(
        default=False,
        description="Wait for POST /api/init before the upstream is started (also from "
        "OH_DEFERRED_INIT); false: start it at once.",
    )
    listen: ListenSettings = Field(default=ListenSettings(), description="The listener.")
    init: InitSettings = Field(default=InitSettings(), description="POST /api/init.")
    upstream: UpstreamSettings = Field(
        default=UpstreamSettings(), description="The server behind the proxy."
    )
    control: ControlSettings = Field(
        default=ControlSettings(), description="The proxy's own paths."
    )
    gate: GateSettings = Field(default=GateSettings(), description="What passes before ready.")
    drain: DrainSettings = Field(default=DrainSettings(), description="Shutdown.")
    log: LogSettings = Field(default=LogSettings(), description="Logging to standard error.")
    limits: LimitSettings = Field(
        default=LimitSettings(), description="What a client may take of the proxy."
    )
