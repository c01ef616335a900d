"""`upstream.mapping`: how the fields of an init request reach an upstream of any make.

A field goes into environment variables, into files, or into templates. Only mapped fields are
accepted, and those that a mapping adds by giving them a type; `env` (plain variables) always is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from proxy.settings.values import (  # noqa: TC001  pydantic
    EnvName,
    Filled,
    Mode,
    ModuleName,
    RequestPath,
    Text,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.template import Template

FieldKind = Literal["text", "texts", "objects", "variables"]

# What each field of the init request holds: a text or number, a list of texts, JSON of some
# depth, or environment variables. (A test holds this against the contract.)
INIT_FIELDS: Final[dict[str, FieldKind]] = {
    "session_api_keys": "texts",
    "secret_key": "text",
    "previous_secret_keys": "texts",
    "conversations_path": "text",
    "bash_events_dir": "text",
    "conversation_worktree_root": "text",
    "env": "variables",
    "webhooks": "objects",
    "web_url": "text",
    "allow_cors_origins": "texts",
    "max_concurrent_runs": "text",
    "telemetry": "objects",
}

# What a field that a mapping adds may hold, and as which of the kinds above that counts.
FieldType = Literal["string", "list", "secret", "path", "integer"]
KINDS: Final[dict[FieldType, FieldKind]] = {
    "string": "text",
    "list": "texts",
    "secret": "text",
    "path": "text",
    "integer": "text",
}

Encoding = Literal["text", "json", "comma", "lines", "indexed"]
FileFormat = Literal["json", "yaml", "toml", "ini", "dotenv", "raw"]


class Model(BaseModel):
    """Base of every part of the tree: frozen, and an unknown key is a fault."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_block(cls, data: Any) -> Any:
        """A section, list or mapping whose lines are all commented out is an empty one."""
        if not isinstance(data, dict):
            return data
        return {
            key: value
            for key, value in data.items()
            if value is not None or not cls._can_be_empty(key)
        }

    @classmethod
    def _can_be_empty(cls, key: str) -> bool:
        info = cls.model_fields.get(key)
        default = info.get_default(call_default_factory=True) if info is not None else None
        return isinstance(default, Model) or default in ((), {})


class Destination(Model):
    """One place that takes the value of a field."""

    env: EnvName | None = Field(
        default=None,
        description="Environment variable that takes the value; with `encode: indexed` the "
        "variables are NAME_0, NAME_1, and so on.",
    )
    encode: Encoding = Field(
        default="text",
        description="How the value becomes text (in a variable or a dotenv file): `text` as it "
        "is, `json`, a list joined by `comma` or as `lines`, or `indexed` variables.",
    )
    file: Text | None = Field(
        default=None, description="Id of the file (under `files`) that takes the value."
    )
    key: Text | None = Field(
        default=None,
        description="Place in the file: a dotted path of mappings (in a dotenv file a plain "
        "name, in an ini file section.name). null: the field's own name.",
    )
    unset: tuple[EnvName, ...] = Field(
        default=(),
        description="Inherited variables that are removed when the field is delivered, because "
        "they would override it. Patterns with * and ? are allowed.",
    )


class FieldMapping(Destination):
    """Where one field of the init request goes."""

    also: tuple[Destination, ...] = Field(
        default=(), description="More places that take it, with keys as the ones above."
    )
    type: FieldType | None = Field(
        default=None,
        description="What a field of your own holds, which the contract does not know; a `secret` "
        "is masked wherever it is shown, a `path` must be absolute.",
    )
    required: bool = Field(default=False, description="Refuse (422) an init that does not give it.")
    generate: bool = Field(
        default=False,
        description="Make a random value when an init does not give it; the same over restarts.",
    )

    @property
    def places(self) -> tuple[Destination, ...]:
        return (self, *self.also)


class FileMapping(Model):
    """A file that is written before the upstream starts and removed when it is undone."""

    path: Text = Field(
        description="Where the file is written: an absolute path, or one that begins with "
        "{run_dir}/ (see `upstream.run_dir`)."
    )
    format: FileFormat = Field(
        default="json", description="How the content is written; raw: as `content` says."
    )
    mode: Mode = Field(
        default=0o600,
        description="Permissions: octal digits as text.",
        json_schema_extra={"default": "0600"},
    )
    env: EnvName | None = Field(
        default=None, description="Environment variable that is set to the file's path."
    )
    base: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Content under the delivered values, which win over it.",
    )
    values: dict[Text, Filled] = Field(
        default_factory=dict,
        description="Places in the file (as `key`) and the templates that fill them.",
    )
    content: Filled | None = Field(
        default=None, description="For `format: raw`: a template of the whole file."
    )
    base_file: Text | None = Field(
        default=None,
        description="A JSON file whose top-level members go under `base` and the delivered values, "
        "read when the upstream is started; it need not exist. A relative path starts at the "
        "upstream's working directory; ${NAME:-path} takes the path from the upstream's "
        "environment. Only for `format: json`.",
    )


class NativeSettings(Model):
    """A dormant mode of the server's own, with an init that takes the fields of ours."""

    switch: Annotated[dict[EnvName, Text], Field(min_length=1)] = Field(
        description="Variables with which the server starts dormant."
    )
    key_env: EnvName = Field(
        description="Variable that takes the key of its init (header X-Init-API-Key). When a field "
        "goes into the same variable, an init must say what that is to be."
    )
    path: RequestPath = Field(
        default="/api/init",
        description="Where it says its `state` (GET) and takes its init (POST).",
    )
    module: ModuleName | None = Field(
        default=None,
        description="A module that only a server with the mode has: in a Python server without "
        "it the mode is not tried.",
    )
    at_boot: tuple[EnvName, ...] = Field(
        default=(),
        description="Variables that it reads before its init: one that delivers them needs a fresh "
        "start. Patterns with * and ? are allowed.",
    )
    guarded: RequestPath | None = Field(
        default=None,
        description="A path that wants a session key, and tells allowed origins: asked after an "
        "init, to see that session_api_keys and allow_cors_origins are in force.",
    )
    token: dict[RequestPath, Text] = Field(
        default_factory=dict,
        description="Paths whose answer has the first session key after this text, if it has the "
        "text: asked as `guarded` is.",
    )
    open_paths: tuple[RequestPath, ...] = Field(
        default=(),
        description="Exact raw paths that everybody may GET from the dormant server.",
    )


class MappingSettings(Model):
    """Fields and files by name; both empty: only `env` is accepted.

    A template has `{field}` or `{env.NAME}` where a value is to stand.
    """

    fields: dict[str, FieldMapping] = Field(
        default_factory=dict, description="What each field of the init request becomes."
    )
    files: dict[str, FileMapping] = Field(
        default_factory=dict, description="Files to write, by an id of your choice."
    )
    variables: dict[EnvName, Filled] = Field(
        default_factory=dict,
        description="Environment variables and the templates that fill them.",
    )
    alive_paths: tuple[RequestPath, ...] = Field(
        default=(),
        description="Exact raw paths that are answered as /health is, in every state: what the "
        "server's own clients poll before they post an init.",
    )
    native: NativeSettings | None = Field(
        default=None,
        title="Native",
        description="The server's own dormant mode, for `upstream.dormancy`; null: it has none.",
    )

    @property
    def own_fields(self) -> dict[str, FieldType]:
        """Those that the contract does not know."""
        return {name: to.type for name, to in self.fields.items() if to.type is not None}

    @property
    def templates(self) -> Iterator[tuple[tuple[str, ...], Template]]:
        """With the path of each below `mapping`."""
        for variable, template in self.variables.items():
            yield ("variables", variable), template
        for name, file in self.files.items():
            for key, template in file.values.items():
                yield ("files", name, "values", key), template
            if file.content is not None:
                yield ("files", name, "content"), file.content
