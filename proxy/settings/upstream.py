"""The branch `upstream`: the server behind the proxy, how it is started, and when it is ready."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from proxy.settings.activation import (
    Activation,
    ForwardSettings,
    LauncherSettings,
    SignalName,
    SignalSettings,
)
from proxy.settings.addresses import ServerUrl, TcpAddress
from proxy.settings.mapping import MappingSettings, Model, NativeSettings
from proxy.settings.probing import AliveSettings, ReadySettings
from proxy.settings.profiles import OPENHANDS
from proxy.settings.standby import StandbySettings
from proxy.settings.template import Template
from proxy.settings.values import (
    AbsolutePath,
    EnvName,
    NotBool,
    Seconds,
    SecondsOrZero,
    Text,
    Url,
    module_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


def _command(argv: tuple[str, ...]) -> tuple[str, ...]:
    if not argv[0]:
        raise ValueError("the program's name cannot be empty")
    return argv


def _modules(value: Any) -> tuple[str, ...] | Literal["auto"]:
    if value == "auto":
        return "auto"
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError("must be a list of module names, or auto")
    return tuple(module_name(name) for name in value)


Command = Annotated[tuple[Text, ...], Field(min_length=1), AfterValidator(_command)]
Modules = Annotated[
    tuple[str, ...] | Literal["auto"],
    PlainValidator(_modules),
    PlainSerializer(lambda value: value if value == "auto" else list(value)),
    WithJsonSchema(
        {"anyOf": [{"const": "auto"}, {"type": "array", "items": {"type": "string"}}]},
    ),
]


class PreloadSettings(Model):
    modules: Modules = Field(
        default="auto",
        description="Modules that the fork server imports before an init: a list, or auto, which "
        "is the plan's, or recorded at the start.",
    )
    plan: AbsolutePath | None = Field(
        default=None, description="File with a recorded list of modules."
    )
    may_deliver: tuple[EnvName, ...] = Field(
        default=(),
        description="Variables that inits will deliver in `env`, besides those that are common: "
        "a recording leaves out whoever reads them. Patterns with * and ? are allowed.",
    )
    timeout: Seconds = Field(
        default=60.0,
        description="Seconds the preload may take; after that the upstream is started cold. Also "
        "what a server has to come up in a dormant mode of its own.",
    )

    @property
    def enabled(self) -> bool:
        return bool(self.modules) or self.plan is not None

    @property
    def chosen(self) -> bool:
        """Whether somebody has said what is to be preloaded."""
        return self.modules not in {"auto", ()} or self.plan is not None


class RestartSettings(Model):
    limit: Annotated[int, Field(ge=1, le=1000), NotBool] = Field(
        default=10, description="Deaths after which the proxy gives up."
    )
    within: Seconds = Field(default=900.0, description="Seconds in which they are counted.")


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
        description="The upstream's program and arguments. No shell reads it. {field} stands for a "
        "value of the init request, as in the templates of `mapping`.",
    )
    cwd: Annotated[Text, Field(min_length=1)] | None = Field(
        default=None,
        description="The upstream's working directory, or a template of it; null: the proxy's own.",
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
    alive: AliveSettings = Field(
        default=AliveSettings(), description="Whether a ready upstream hangs."
    )
    stop_signal: SignalName = Field(default="SIGTERM", description="What asks the upstream to end.")
    stop_grace: SecondsOrZero = Field(
        default=10.0,
        description="Seconds the upstream has to end after that before SIGKILL; 0: at once.",
    )
    on_exit: Literal["restart", "exit", "dormant"] = Field(
        default="restart",
        description="When the upstream dies after ready: restart it with the same plan, exit "
        "with its exit code, or be dormant and await a new init.",
    )
    restarts: RestartSettings = Field(
        default=RestartSettings(),
        description="For `on_exit: restart`: when the proxy ends because the upstream does not "
        "stay up, a restart that fails counting as a death.",
    )
    dormancy: Literal["auto", "native", "standby", "preload", "cold"] = Field(
        default="auto",
        description="How the upstream waits for an init: native, in a dormant mode of its own; "
        "standby, running, to be told by requests; preload, with its modules imported; cold, not "
        "at all; auto, as well as it can.",
    )
    rehearsal: bool = Field(
        default=False,
        description="Start what can only start cold once while dormant, with made-up values, and "
        "end it: a start that follows finds its files and compiled code in caches.",
    )
    standby: StandbySettings = Field(
        default=StandbySettings(), description="How a running upstream is told of an init."
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
    def preloads(self) -> bool:
        """Whether a launcher is to import modules before an init, by itself or as second best."""
        launched = self.activation in {"spawn", "launcher"}
        # Arguments that an init brings are not those of what was imported.
        filled = any(
            place for text in (*self.argv, self.directory) if text for place in text.places
        )
        return (
            launched
            and self.dormancy not in {"cold", "standby"}
            and self.preload.enabled
            and not filled
        )

    @property
    def records(self) -> bool:
        """Whether it may have to find out first which."""
        return self.preloads and self.preload.modules == "auto"

    @property
    def warms(self) -> bool:
        """Whether a pod can be claimed only some time after its start."""
        return self.preloads or self.rehearsal or self.activation in {"launcher", "forward"}

    def at_once(self) -> UpstreamSettings:
        """For an upstream that waits for nothing: what only a wait pays for is left out."""
        return self if self.preload.chosen else self.model_copy(update={"dormancy": "cold"})

    @property
    def native(self) -> NativeSettings | None:
        """The dormant mode of its own that is to be tried; None when none is."""
        wanted = self.dormancy in {"auto", "native"} and self.activation in {"spawn", "launcher"}
        return self.fields_and_files.native if wanted else None

    @property
    def stands_by(self) -> bool:
        """Whether it runs while it is dormant, and is told of an init by requests."""
        return self.dormancy in {"auto", "standby"} and bool(self.standby.requests)

    @property
    def fields_and_files(self) -> MappingSettings:
        """The mapping in force: the profile's, or the one that was written down."""
        return OPENHANDS if self.profile == "openhands" else self.mapping

    @property
    def argv(self) -> tuple[Template, ...]:
        """The command, with what values fill; braces of a shell or a program stay its own."""
        fields = frozenset(self.fields_and_files.fields)
        return tuple(Template(argument, fields) for argument in self.command)

    @property
    def directory(self) -> Template | None:
        """`cwd`, with what values fill."""
        if self.cwd is None:
            return None
        return Template(self.cwd, frozenset(self.fields_and_files.fields))

    @property
    def templates(self) -> Iterator[tuple[tuple[str | int, ...], Template]]:
        """Every text that values of an init request fill, with its path below `upstream`."""
        for index, argument in enumerate(self.argv):
            yield ("command", index), argument
        if self.directory is not None:
            yield ("cwd",), self.directory
        for path, template in self.fields_and_files.templates:
            yield ("mapping", *path), template
        for number, request in enumerate(self.standby.requests):
            for path, template in request.templates:
                yield ("standby", "requests", number, *path), template
