"""The tree of settings. Attribute names are the keys of the YAML file.

Plain pydantic models; pydantic-settings would cost a dormant pod 16 MB for what `environment.py`
does in a page.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    Field,
    PlainSerializer,
    PlainValidator,
    SecretStr,
    WithJsonSchema,
)

from proxy.settings.activation import (
    Activation,
    ForwardSettings,
    LauncherSettings,
    SignalSettings,
)
from proxy.settings.addresses import ServerUrl, TcpAddress
from proxy.settings.mapping import MappingSettings, Model
from proxy.settings.profiles import OPENHANDS
from proxy.settings.values import (
    AbsolutePath,
    Address,
    EnvName,
    Network,
    NotBool,
    RequestPath,
    Seconds,
    SecondsOrZero,
    Status,
    Text,
    Url,
)

_MODULE: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def _command(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv[0]:
        raise ValueError("the program's name cannot be empty")
    return argv


def _modules(value: Any) -> tuple[str, ...] | Literal["auto"]:
    if value == "auto":
        return "auto"
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of module names, or auto")
    for name in value:
        if not _MODULE.fullmatch(name):
            raise ValueError(f"{name!r} is not a module's name")
    return tuple(value)


Command = Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(_command)]
Modules = Annotated[
    tuple[str, ...] | Literal["auto"],
    PlainValidator(_modules),
    PlainSerializer(lambda value: value if value == "auto" else list(value)),
    WithJsonSchema(
        {"anyOf": [{"const": "auto"}, {"type": "array", "items": {"type": "string"}}]},
    ),
]


def _key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    # A blank key is kept: it refuses everybody. Any other must be what a header can carry.
    if text.strip() and (text != text.strip() or not text.isprintable()):
        raise ValueError("has white space around it or control characters, which no header carries")
    return key


class ListenSettings(Model):
    address: Address = Field(
        default=TcpAddress("0.0.0.0", 8000),  # noqa: S104  kubelet probes reach the pod's address
        description="Where clients and the orchestrator connect: host:port, [v6]:port or "
        "unix:/path. Port 0 lets the kernel choose.",
        json_schema_extra={"default": "0.0.0.0:8000"},
    )
    admin: Address | None = Field(
        default=TcpAddress("127.0.0.1", 9901),
        description="Where /metrics is served, apart from everything else; null: nowhere.",
        json_schema_extra={"default": "127.0.0.1:9901"},
    )
    trusted_proxies: tuple[Network, ...] = Field(
        default=(),
        description="Networks whose X-Forwarded-* headers are appended to; anybody else's are "
        "replaced.",
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


class ReadySettings(Model):
    path: RequestPath = Field(
        default="/ready", description="What the readiness probe asks the upstream for."
    )
    statuses: Annotated[tuple[Status, ...], Field(min_length=1)] = Field(
        default=(200,), description="Statuses that mean ready."
    )
    interval: Seconds = Field(default=0.01, description="Seconds between two attempts.")
    timeout: Seconds = Field(default=2.0, description="Seconds one attempt may take.")


class PreloadSettings(Model):
    modules: Modules = Field(
        default=(),
        description="Modules that the fork server imports before an init: a list, or auto.",
    )
    plan: AbsolutePath | None = Field(
        default=None, description="File with a recorded list of modules."
    )
    timeout: Seconds = Field(
        default=60.0,
        description="Seconds the preload may take; after that the upstream is started cold.",
    )

    @property
    def enabled(self) -> bool:
        return bool(self.modules) or self.plan is not None


class UpstreamSettings(Model):
    url: Url = Field(
        default=ServerUrl(TcpAddress("127.0.0.1", 18000)),
        description="Where the upstream listens: http://host:port or http+unix:///path.",
        json_schema_extra={"default": "http://127.0.0.1:18000"},
    )
    activation: Activation = Field(
        default="spawn",
        description="How the upstream is started: spawn, as our own child; launcher, by a "
        "launcher in another container; signal, by files and a signal; forward, by its own init.",
    )
    command: Command = Field(
        default=(
            *("python", "-m", "openhands.agent_server"),
            *("--host", "127.0.0.1", "--port", "18000"),
        ),
        description="The upstream's program and arguments. No shell reads it.",
    )
    cwd: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None, description="The upstream's working directory; null: the proxy's own."
    )
    env: dict[EnvName, Text] = Field(
        default_factory=dict, description="Environment variables of the upstream."
    )
    deny_env: tuple[EnvName, ...] = Field(
        default=(),
        description="Variables of the proxy's that the upstream does not inherit. Patterns with "
        "* and ? are allowed.",
    )
    profile: Literal["openhands", "none"] = Field(
        default="openhands",
        description="How an init request becomes environment and files: openhands, or none to "
        "say it under `mapping`.",
    )
    mapping: MappingSettings = Field(
        default=MappingSettings(), description="For `profile: none`: where each field goes."
    )
    run_dir: AbsolutePath | None = Field(
        default=None,
        description="Directory for files of an activation, made with mode 0700 and removed when "
        "it is undone; null: a private one under the system's temporary directory.",
    )
    ready: ReadySettings = Field(default=ReadySettings(), description="The readiness probe.")
    stop_grace: SecondsOrZero = Field(
        default=10.0,
        description="Seconds the upstream has to end after SIGTERM before SIGKILL; 0: at once.",
    )
    on_exit: Literal["restart", "exit", "dormant"] = Field(
        default="restart",
        description="When the upstream dies after ready: restart it with the same plan, exit "
        "with its exit code, or be dormant and await a new init.",
    )
    preload: PreloadSettings = Field(
        default=PreloadSettings(), description="What is imported before an init (warm start)."
    )
    launcher: LauncherSettings = Field(
        default=LauncherSettings(), description="For `activation: launcher`."
    )
    signal: SignalSettings = Field(
        default=SignalSettings(), description="For `activation: signal`."
    )
    forward: ForwardSettings = Field(
        default=ForwardSettings(), description="For `activation: forward`."
    )

    @property
    def warms(self) -> bool:
        """Whether a pod can be claimed only some time after its start."""
        return self.preload.enabled or self.activation in {"launcher", "forward"}

    @property
    def fields_and_files(self) -> MappingSettings:
        """The mapping in force: the profile's, or the one that was written down."""
        return OPENHANDS if self.profile == "openhands" else self.mapping


class GateSettings(Model):
    hold: SecondsOrZero = Field(
        default=0.0,
        description="Seconds that requests which come while the upstream starts wait for it, to "
        "be relayed instead of refused; 0: they are refused at once.",
    )
    session_keys: Literal["off", "enforce"] = Field(
        default="off",
        description="enforce: for an upstream without authentication of its own, let only those "
        "pass who have one of the delivered session_api_keys. Others get 401, open paths too.",
    )
    strip_session_keys: bool = Field(
        default=False,
        description="Keep the header X-Session-API-Key from the upstream.",
    )
    open_paths: tuple[RequestPath, ...] = Field(
        default=(),
        description="Exact raw paths that are relayed before ready too.",
    )


class DrainSettings(Model):
    grace: SecondsOrZero = Field(
        default=30.0,
        description="Seconds that running requests have to end at shutdown; 0: cut at once.",
    )


class LogSettings(Model):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="The least severe level that is logged."
    )
    format: Literal["json", "text"] = Field(default="json", description="One record a line.")


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
        default=10_000, description="Client connections at one time."
    )
    connect_timeout: Seconds = Field(
        default=5.0, description="Seconds in which the upstream must accept a connection."
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
    gate: GateSettings = Field(default=GateSettings(), description="What passes before ready.")
    drain: DrainSettings = Field(default=DrainSettings(), description="Shutdown.")
    log: LogSettings = Field(default=LogSettings(), description="Logging to standard error.")
    limits: LimitSettings = Field(
        default=LimitSettings(), description="What a client may take of the proxy."
    )
