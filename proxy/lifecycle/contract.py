"""The wire models of `/api/init`: what may be asked, and what is answered.

The fields are those of the OpenHands agent server's own deferred init, so that an orchestrator
written for it needs no change: what that takes for a number is one (`"3"`, `3.0`). Otherwise types
are strict (`1` is no text, `true` no number), because whatever is let through here becomes the
environment of a process.

A field that is `null` counts as not given. What else an author may have meant by "nothing":

* a blank text is not given, and blank `previous_secret_keys` are left out;
* an empty `session_api_keys` is not given: it never takes away a key the pod already has, so
  no spelling of "no keys" unlocks a server;
* other empty lists are given: they replace what the pod was configured with;
* an empty body is refused: an init cannot be taken back, and `{}` is short enough.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

from proxy.errors import InvalidFieldError
from proxy.lifecycle.faults import fault_of
from proxy.lifecycle.jsontext import dotted, read_object, unsendable
from proxy.lifecycle.state import Reported  # noqa: TC001  pydantic reads the annotation

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

    from proxy.settings import FieldType

# Every request is compared with each of them.
_MOST_SESSION_KEYS: Final = 100
# Enough to mend a request by; an answer with thousands of lines helps nobody.
_SHOWN_FAULTS: Final = 20

_Worded = TypeVar("_Worded", str, SecretStr)


def _not_blank(value: _Worded) -> _Worded:
    text = value if isinstance(value, str) else value.get_secret_value()
    if not text.strip():
        raise PydanticCustomError("blank", "cannot be blank")
    return value


def _env_name(name: str) -> str:
    if not name:
        raise PydanticCustomError("env_name", "a name cannot be empty")
    if "=" in name:
        raise PydanticCustomError("env_name", "a name cannot contain '='")
    return name


def _absolute(path: str) -> str:
    if not path.startswith("/"):
        raise PydanticCustomError("absolute", "must be an absolute path")
    return path


def _blank_is_none(value: Any) -> Any:
    return None if isinstance(value, str) and not value.strip() else value


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "must be a whole number")
    return value


_Key = Annotated[SecretStr, AfterValidator(_not_blank)]
_Blank = BeforeValidator(_blank_is_none)
_Text = Annotated[str | None, _Blank]
_Whole = Annotated[
    Annotated[int, Field(strict=False, ge=1), BeforeValidator(_no_bool)] | None, _Blank
]
_EnvName = Annotated[str, AfterValidator(_env_name)]


class Webhook(BaseModel):
    """What every release asks of a webhook; the rest differs between them and is passed on."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True, hide_input_in_errors=True)

    base_url: Annotated[str, AfterValidator(_not_blank)]
    headers: dict[str, str] = Field(default_factory=dict)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Names only: headers and addresses carry credentials."""
        yield from ((None, name) for name in sorted(self.model_fields_set))


class InitRequest(BaseModel):
    """The body of `POST /api/init`. Made by `parse_init_request`; its repr shows names only."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    session_api_keys: list[_Key] | None = Field(default=None, max_length=_MOST_SESSION_KEYS)
    secret_key: Annotated[SecretStr | None, _Blank] = None
    previous_secret_keys: list[SecretStr] | None = None
    conversations_path: _Text = None
    bash_events_dir: _Text = None
    conversation_worktree_root: _Text = None
    env: dict[_EnvName, SecretStr] | None = None
    webhooks: list[Webhook] | None = None
    web_url: _Text = None
    allow_cors_origins: list[str] | None = None
    max_concurrent_runs: _Whole = None
    telemetry: dict[str, Any] | None = None

    def delivered(self) -> dict[str, Any]:
        """The fields that count as given, `env` left out, as plain JSON values.

        Secrets are in the clear: for the plan only.
        """
        given: dict[str, Any] = {
            info.alias or name: _plain(value)
            for name, info in type(self).model_fields.items()
            if name != "env" and (value := getattr(self, name)) is not None
        }
        if not given.get("session_api_keys", True):
            del given["session_api_keys"]
        if "previous_secret_keys" in given:
            given["previous_secret_keys"] = [k for k in given["previous_secret_keys"] if k.strip()]
        return given

    def environment(self) -> dict[str, str]:
        """The delivered `env`, values in the clear."""
        return {name: value.get_secret_value() for name, value in (self.env or {}).items()}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Names of the given fields and of the variables, never a value."""
        for name, info in type(self).model_fields.items():
            if name == "env" and self.env is not None:
                yield "env", sorted(self.env)
            elif getattr(self, name) is not None:
                yield None, info.alias or name


def _plain(value: Any) -> Any:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, Webhook):
        return value.model_dump(exclude_unset=True)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


# Absolute, or blank and so not given.
_PATH_SCHEMA: Final = {"type": "string", "pattern": r"^(\s*|/[^\x00]*)$"}
_OWN_TYPES: Final[dict[FieldType, Any]] = {
    "string": _Text,
    "list": list[str] | None,
    "secret": Annotated[SecretStr | None, _Blank],
    "path": Annotated[
        Annotated[str, AfterValidator(_absolute), WithJsonSchema(_PATH_SCHEMA)] | None, _Blank
    ],
    "integer": Annotated[
        Annotated[int, Field(strict=False), BeforeValidator(_no_bool)] | None, _Blank
    ],
}


def request_model(own: Mapping[str, FieldType] | None = None) -> type[InitRequest]:
    """What an init request is where the settings have fields of their own."""
    return _with_own(frozenset((own or {}).items()))


@functools.cache
def _with_own(own: frozenset[tuple[str, FieldType]]) -> type[InitRequest]:
    # Known by aliases: nobody's field shall stand in the place of a method.
    fields: dict[str, Any] = {
        f"own_{name}": (_OWN_TYPES[kind], Field(default=None, alias=name)) for name, kind in own
    }
    return create_model("InitRequest", __base__=InitRequest, **fields) if own else InitRequest


def parse_init_request(body: bytes, own: Mapping[str, FieldType] | None = None) -> InitRequest:
    """Read the body of a `POST /api/init`; `own` are fields beside the contract's.

    Raises `RequestError` (400) for what is not a JSON object, with the place; `BodyTooLargeError`
    (413) for one of too many values; `InvalidFieldError` (422) with the faults of its fields, each
    with its path. None quotes a value.
    """
    data = read_object(body)
    unfit = [f"{dotted(path)}: {fault}" for path, fault in unsendable(data)]
    wrong: list[ErrorDetails] = []
    request = None
    model = request_model(own)
    try:
        request = model.model_validate(data)
    except ValidationError as error:
        wrong = [e for e in error.errors() if e["type"] != "string_unicode"]
    if request is None or unfit:
        shown = (unfit + [fault_of(e, model) for e in wrong[:_SHOWN_FAULTS]])[:_SHOWN_FAULTS]
        more = len(unfit) + len(wrong) - len(shown)
        said = "; ".join(shown) + (f"; and {more} more" if more else "")
        raise InvalidFieldError(f"cannot accept the init request: {said}")
    return request


class InitStatus(BaseModel):
    """What every answer of `/api/init` with a state says, and nothing else."""

    state: Reported
    error: str | None = None


class Start(BaseModel):
    """How an upstream was started, or would be; `why` says what it could not be better for.

    `kind` is native, standby, warm, partial (warm, and still more than a third of a cold start) or
    cold.
    """

    kind: str
    why: str | None = None


class Preload(BaseModel):
    """How many modules the fork server has imported, of how many that the upstream loads."""

    imported: int = 0
    modules: int = 0


class InitDetails(InitStatus):
    """`GET /api/init?details=true`. Times are seconds, `since` and `next_try` since the epoch.

    `start` is that of the running upstream, `next` that of the next one, as things stand.
    `next_try`: when an upstream that has died is started again.
    """

    phase: str | None = None
    attempt: int = 0
    since: float
    timings: dict[str, float] = Field(default_factory=dict)
    start: Start | None = None
    next: Start | None = None
    pid: int | None = None
    restarts: int = 0
    next_try: float | None = None
    preload: Preload = Field(default_factory=Preload)
