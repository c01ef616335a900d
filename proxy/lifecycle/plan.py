"""The plan: everything that an activation will do to the world, decided before any of it is done.

Pure: settings and init request in, names and bytes out. The environment of the upstream comes
about in this order, the later winning:

    inherited - base_unset + base_env - unset + env

*Inherited* is the launcher's own environment. `base_unset` keeps the proxy's secrets out of it, the
bootstrap key above all: the upstream sees an `OH_SECRET_KEY` only if `secret_key` was delivered or
follows from the session keys. `unset` removes what would override a delivered field.
"""

from __future__ import annotations

import dataclasses
import json
import secrets as random_secrets
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.jsontext import dotted
from proxy.lifecycle.mapping import (
    PlannedFile,
    Unfit,
    Values,
    overridden,
    planned_files,
    spoken_for,
    variables,
)
from proxy.lifecycle.redact import secrets_of
from proxy.lifecycle.told.native import passed_on
from proxy.lifecycle.told.requests import planned_requests, told_variables
from proxy.lifecycle.told.specs import misspecified

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.lifecycle.told.requests import PlannedRequest
    from proxy.settings import MappingSettings, NativeSettings, UpstreamSettings

__all__ = ["Plan", "PlannedFile", "build_plan"]

# The proxy's own: its key, its mode and its settings.
PROXY_OWN: Final = ("OH_SECRET_KEY", "OH_DEFERRED_INIT", "PROXY_*")

# Bytes of NAME=value that execve(2) takes: MAX_ARG_STRLEN with its NUL.
_VARIABLE_LIMIT: Final = 131071

_GENERATED_BYTES: Final = 32  # of randomness in a value that is made here


@dataclass(frozen=True, repr=False)
class Plan:
    """What to start, with which environment and files. Its repr shows names, never values.

    `unset` and `base_unset` hold names and shell patterns (as `fnmatch`). `secrets` are the values
    to mask in whatever is shown to anybody.
    """

    argv: tuple[str, ...]
    cwd: str | None
    base_env: dict[str, str]
    base_unset: tuple[str, ...]
    env: dict[str, str]
    unset: tuple[str, ...]
    files: tuple[PlannedFile, ...]
    run_dir: str
    secrets: frozenset[str]
    session_keys: tuple[str, ...] = ()  # what the gate may be told to ask for
    cors_origins: tuple[str, ...] | None = None  # whose pages may read what the proxy answers
    request: bytes = b""  # the init request as it is passed on, when it is
    fresh: str | None = None  # why it cannot be passed on to an upstream that has an init
    key: str = ""  # of that init, in the plan of a dormant upstream; or what stands for it
    requests: tuple[PlannedRequest, ...] = ()  # to be made when it is ready
    untold: bool = False  # whether one of them may not have been answered yet

    def __repr__(self) -> str:
        files = [file.path for file in self.files]
        return (
            f"<Plan {self.argv[0]!r} env={sorted(self.env)} unset={list(self.unset)}"
            f" files={files} run_dir={self.run_dir!r}>"
        )


def build_plan(
    upstream: UpstreamSettings,
    request: InitRequest,
    *,
    run_dir: str,
    keys_at_gate: bool = False,
    complete: bool = True,
) -> Plan:
    """Decide what `request` does to `upstream`; `run_dir` is where its files may go.

    With `keys_at_gate` the session keys are accepted for an upstream that has no place for them.
    Unless it is `complete`, the request may lack what the upstream needs.

    Raises `InvalidFieldError` with every fault at once: a field that is not mapped, a variable
    that is not the caller's to set, a value that the mapping cannot carry.
    """
    if upstream.activation == "forward":
        return _forwarded(upstream, request)
    mapping = upstream.fields_and_files
    delivered = request.delivered()
    environment = request.environment()
    _default_secret_key(upstream, delivered, environment)
    _generate(mapping, delivered)
    secrets = frozenset(secrets_of(delivered, environment, mapping))
    session_keys = tuple(delivered.get("session_api_keys", ()))
    if keys_at_gate and "session_api_keys" not in mapping.fields:
        delivered.pop("session_api_keys", None)
    _refuse(_faults(upstream, delivered, environment, complete=complete))
    try:
        values = Values(delivered, environment, complete=complete)
        mapped = _mapped(mapping, delivered)
        mapped |= {name: made.fill(values) for name, made in mapping.variables.items()}
        into_files = delivered if request.env is None else {"env": environment, **delivered}
        files = planned_files(mapping, into_files, run_dir, values)
        argv = tuple(argument.fill(values) for argument in upstream.argv)
        cwd = upstream.directory.fill(values) if upstream.directory is not None else None
        telling = upstream.standby.requests if upstream.stands_by and complete else ()
        requests = planned_requests(telling, values)
    except Unfit as error:
        raise _refusal([str(error)]) from None
    _refuse([*_too_long(environment, "env"), *_too_long(mapped), *_too_long_arguments(argv)])
    named = {to.env: file.path for to, file in zip(mapping.files.values(), files, strict=True)}
    named_files = {name: path for name, path in named.items() if name is not None}
    told = told_variables(telling)
    env = {name: value for name, value in environment.items() if name not in told}
    env |= {**mapped, **named_files}
    own, fresh = b"", None
    if upstream.native is not None:
        own, fresh = passed_on(
            *(upstream, upstream.native), delivered=delivered, environment=environment, env=env
        )
    return Plan(
        argv=argv,
        cwd=cwd,
        base_env=dict(upstream.env),
        base_unset=(*upstream.deny_env, *PROXY_OWN),
        env=env,
        unset=tuple(sorted({n for f in delivered for n in overridden(mapping.fields[f])})),
        files=files,
        # Nobody knows a private one but the files, and without it no place need be writable.
        run_dir=run_dir if files or upstream.run_dir is not None else "",
        secrets=secrets,
        session_keys=session_keys,
        cors_origins=_origins(request),
        request=own,
        fresh=fresh,
        requests=requests,
        untold=bool(requests),
    )


def dormant_plan(
    upstream: UpstreamSettings, native: NativeSettings, key: str, *, run_dir: str
) -> Plan:
    """How the upstream is started in its own dormant mode, with `key` for its own init."""
    plan = build_plan(upstream, InitRequest(), run_dir=run_dir, complete=False)
    env = plan.env | native.switch | {native.key_env: key}
    return dataclasses.replace(plan, env=env, secrets=plan.secrets | {key}, key=key)


def _forwarded(upstream: UpstreamSettings, request: InitRequest) -> Plan:
    """The request as it came: the upstream has rules of its own for its fields."""
    delivered, environment = request.delivered(), request.environment()
    body = delivered if request.env is None else {**delivered, "env": environment}
    return Plan(
        argv=tuple(upstream.command),
        cwd=upstream.cwd,
        base_env={},
        base_unset=(),
        env={},
        unset=(),
        files=(),
        run_dir="",
        secrets=frozenset(secrets_of(delivered, environment, upstream.mapping)),
        session_keys=tuple(delivered.get("session_api_keys", ())),
        cors_origins=_origins(request),
        request=json.dumps(body).encode(),
    )


def _origins(request: InitRequest) -> tuple[str, ...] | None:
    given = request.allow_cors_origins
    return None if given is None else tuple(given)


def _default_secret_key(
    upstream: UpstreamSettings, delivered: dict[str, Any], environment: Mapping[str, str]
) -> None:
    """The first session key, unless deployment or caller give the upstream a key by its variable.

    Said here and not left to the server, whose oldest releases do not know the rule.
    """
    to = upstream.fields_and_files.fields.get("secret_key")
    named = to is not None and (to.env in upstream.env or to.env in environment)
    if to is not None and not named and "session_api_keys" in delivered:
        delivered.setdefault("secret_key", delivered["session_api_keys"][0])


def _generate(mapping: MappingSettings, delivered: dict[str, Any]) -> None:
    for name, to in mapping.fields.items():
        if to.generate:
            delivered.setdefault(name, random_secrets.token_urlsafe(_GENERATED_BYTES))


def _faults(
    upstream: UpstreamSettings,
    delivered: Mapping[str, Any],
    environment: Mapping[str, str],
    *,
    complete: bool,
) -> list[str]:
    mapping = upstream.fields_and_files
    faults = [*_unmapped(upstream, delivered), *_reserved(mapping, environment, delivered)]
    for name, to in mapping.fields.items():
        if to.required and name not in delivered and complete:
            faults.append(f"{name}: is required")
    if upstream.profile == "openhands":
        faults += misspecified(delivered)
    return faults


def _refuse(faults: list[str]) -> None:
    if faults:
        raise _refusal(faults)


def _refusal(faults: list[str]) -> InvalidFieldError:
    return InvalidFieldError(f"cannot accept the init request: {'; '.join(faults)}")


def _mapped(mapping: MappingSettings, delivered: Mapping[str, Any]) -> dict[str, str]:
    made: dict[str, str] = {}
    for name, value in delivered.items():
        for to in mapping.fields[name].places:
            made |= variables(name, value, to, to.env)
    return made


def _unmapped(upstream: UpstreamSettings, delivered: Mapping[str, Any]) -> Iterator[str]:
    fields = upstream.fields_and_files.fields
    named = {place.name for _, template in upstream.templates for place in template.places}
    for name in delivered:
        places = fields[name].places if name in fields else ()
        if name not in fields or not (
            name in named or any(to.env is not None or to.file is not None for to in places)
        ):
            yield f"{name}: not mapped for this upstream"


def _reserved(
    mapping: MappingSettings, environment: Mapping[str, str], delivered: Mapping[str, Any]
) -> Iterator[str]:
    """Variables of the caller's that the proxy sets itself, or that would override a field.

    One that stands for a field says what the field is, when that is not given.
    """
    owners = {name: field for field in mapping.fields for name in spoken_for(mapping, field)}
    # There may be thousands of variables: what is no pattern is only looked up.
    wild = {name: field for name, field in owners.items() if set(name) & set("*?[")}
    ours = {file.env for file in mapping.files.values()} | set(mapping.variables)
    for name in environment:
        matching = (field for pattern, field in wild.items() if fnmatchcase(name, pattern))
        owner = owners.get(name) or next(matching, None)
        if owner is not None:
            if owner in delivered or owner == "env":
                yield f"{dotted(('env', name))}: cannot be set here, only as {owner}"
        elif any(fnmatchcase(name, pattern) for pattern in PROXY_OWN):
            yield f"{dotted(('env', name))}: is reserved for the proxy"
        elif name in ours:
            yield f"{dotted(('env', name))}: is set by the proxy"


def _too_long(env: Mapping[str, str], *where: str) -> Iterator[str]:
    """Variables that no program can be started with."""
    for name, value in env.items():
        size = len(f"{name}={value}".encode("utf-8", "surrogateescape"))
        if size > _VARIABLE_LIMIT:
            most = _VARIABLE_LIMIT
            yield f"{dotted((*where, name))}: is too long: {size} bytes with its name, {most} fit"


def _too_long_arguments(argv: tuple[str, ...]) -> Iterator[str]:
    for number, argument in enumerate(argv):
        size = len(argument.encode("utf-8", "surrogateescape"))
        if size > _VARIABLE_LIMIT:
            yield f"argument {number} of the command: is too long: {size} bytes, as filled"
