"""The OpenAPI document of the control plane, made from the models that its handlers use.

Imported only when somebody asks for it. What a schema cannot say (names that are reserved by a
profile, fields that are not mapped) is said in words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, get_args

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from proxy import __version__
from proxy.control.login import PATH as LOGIN
from proxy.control.watch import LONGEST_WAIT
from proxy.lifecycle.claims import LONGEST_ID
from proxy.lifecycle.contract import InitDetails, InitRequest, InitStatus
from proxy.lifecycle.state import Reported

_REFERENCE: Final = "#/components/schemas/{model}"
_RETRY: Final = {
    "Retry-After": {
        "description": "Seconds after which to ask again.",
        "schema": {"type": "integer", "minimum": 0},
    }
}
# JSON strings that can be an environment value: no NUL.
_TEXT: Final = r"^[^\x00]*$"
_NOT_BLANK: Final = r"^[^\x00]*[^\s\x00][^\x00]*$"
_ENV_NAME: Final = r"^[^=\x00]+$"
_REQUEST: Final = "What is delivered. Every field is optional, and null counts as not given."
# Of the contract's own; a field that the settings add may be blank whatever it holds.
_NEVER_BLANK: Final = frozenset({*InitRequest.model_fields, "base_url"}) - {
    *("secret_key", "previous_secret_keys", "web_url"),
}


class Refusal(BaseModel):
    """Why a request was refused; nothing was changed."""

    detail: str


class Health(BaseModel):
    """The proxy's own word on itself."""

    status: str


class LoginLink(BaseModel):
    """A link for a browser, which works once."""

    path: str = Field(description="Path and query on the address at which clients reach the proxy.")
    expires_in: float = Field(description="Seconds in which it works.")


@dataclass(frozen=True)
class Surface:
    """What of the API the settings decide: where it is, and what an init must and may have."""

    prefix: str = ""
    alive_paths: tuple[str, ...] = ()
    request: type[InitRequest] = InitRequest
    required: frozenset[str] = frozenset()
    login: bool = True


_PLAIN: Final = Surface()


def document(surface: Surface = _PLAIN) -> dict[str, Any]:
    """The document, for a proxy with `deferred_init: true`."""
    models: list[type[BaseModel]] = [surface.request, InitStatus, InitDetails, Refusal, Health]
    models += [LoginLink] if surface.login else []
    _, schemas = models_json_schema(
        [(model, "validation") for model in models], ref_template=_REFERENCE
    )
    definitions: dict[str, Any] = schemas["$defs"]
    definitions["InitRequest"]["description"] = _REQUEST
    if surface.required:
        definitions["InitRequest"]["required"] = sorted(surface.required)
    _tighten(definitions["InitRequest"]["properties"])
    _tighten(definitions["Webhook"]["properties"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Deferred init",
            "version": __version__,
            "description": "How a pool claims a dormant agent server, and hears of it.",
        },
        "paths": _paths(surface),
        "components": {
            "schemas": definitions,
            "securitySchemes": {
                "bootstrap": {
                    "type": "apiKey",
                    "in": "header",
                    "name": "X-Init-API-Key",
                    "description": "The pool's bootstrap key (`init.key`).",
                }
            },
        },
    }


def _paths(surface: Surface) -> dict[str, Any]:
    init = f"{surface.prefix}/api/init"
    health = {"get": _probe("healthy", "Whether the proxy, and an upstream, lives.")}
    return {
        init: {"get": _status(), "post": _initialize()},
        **({surface.prefix + LOGIN: {"post": _link(), "get": _enter()}} if surface.login else {}),
        **dict.fromkeys((f"{surface.prefix}/health", *surface.alive_paths), health),
        f"{surface.prefix}/ready": {
            "get": _probe("ready", "Whether the pod may be claimed or used.")
        },
    }


def _tighten(properties: dict[str, Any]) -> None:
    """Add what validators check in code: no NUL, not blank, names of variables."""
    for name, schema in properties.items():
        for node in _strings(schema):
            node.setdefault("pattern", _NOT_BLANK if name in _NEVER_BLANK else _TEXT)
    if "env" in properties:
        for node in properties["env"]["anyOf"]:
            if node["type"] == "object":
                node["propertyNames"] = {"pattern": _ENV_NAME}
                node["additionalProperties"]["pattern"] = _TEXT
        properties["allow_cors_origins"]["anyOf"][0]["items"]["pattern"] = _TEXT


def _strings(schema: dict[str, Any]) -> list[dict[str, Any]]:
    found = [schema] if schema.get("type") == "string" else []
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            found += _strings(schema[key])
    for branch in schema.get("anyOf", []):
        found += _strings(branch)
    return found


def _json(*models: str) -> dict[str, Any]:
    references = [{"$ref": _REFERENCE.format(model=model)} for model in models]
    schema = references[0] if len(references) == 1 else {"anyOf": references}
    return {"application/json": {"schema": schema}}


def _refused(description: str) -> dict[str, Any]:
    return {"description": description, "content": _json("Refusal")}


def _probe(word: str, summary: str) -> dict[str, Any]:
    return {
        "summary": summary,
        "responses": {
            "200": {"description": f"It is {word}.", "content": _json("Health")},
            "503": _refused(f"It is not {word}.") | {"headers": _RETRY},
        },
    }


def _status() -> dict[str, Any]:
    states = list(get_args(Reported))
    return {
        "summary": "State and last error, at once, when they change, or as a stream of changes.",
        "parameters": [
            {
                "name": "details",
                "in": "query",
                "description": "Tell phase, attempt, timings, start and process as well.",
                "schema": {"type": "boolean"},
            },
            {
                "name": "wait",
                "in": "query",
                "description": "Answer when the state or its error changes, or `state` is "
                "reached; at the latest after so many seconds.",
                "schema": {"type": "number", "minimum": 0, "maximum": LONGEST_WAIT},
            },
            {
                "name": "state",
                "in": "query",
                "description": "The state to wait for; at once if it is there.",
                "schema": {"type": "string", "enum": states},
            },
        ],
        "responses": {
            "200": {
                "description": "State and error; with `Accept: text/event-stream` each change of "
                "them as an event `status` whose data is the same object. A stream is taken up "
                "again with `Last-Event-ID`.",
                "content": _json("InitDetails", "InitStatus")
                | {"text/event-stream": {"schema": {"type": "string"}}},
            },
            "400": _refused("A parameter makes no sense."),
            "404": _refused("The server does not run with a deferred init."),
        },
    }


def _link() -> dict[str, Any]:
    return {
        "summary": "A link that logs a browser in, where `gate.session_keys` is `enforce`.",
        "security": [{"bootstrap": []}],
        "responses": {
            "200": {"description": "The link.", "content": _json("LoginLink")},
            "400": _refused("Nobody has the server yet."),
            "401": _refused("X-Init-API-Key is missing or wrong."),
        },
    }


def _enter() -> dict[str, Any]:
    return {
        "summary": "What such a link leads to.",
        "parameters": [
            {
                "name": "token",
                "in": "query",
                "required": True,
                "description": "The link's.",
                "schema": {"type": "string"},
            },
            {
                "name": "next",
                "in": "query",
                "description": "The path to go on to; / where it is none of this server's.",
                "schema": {"type": "string"},
            },
        ],
        "responses": {
            "303": {"description": "Logged in by a cookie, and sent on."},
            "401": _refused("The link was used already, or is too old."),
        },
    }


def _initialize() -> dict[str, Any]:
    failed = {
        "description": "The activation failed and was undone.",
        "content": _json("InitStatus"),
    }
    return {
        "summary": "Claim the server: deliver environment and configuration, and wait for ready.",
        "security": [{"bootstrap": []}],
        "parameters": [
            {
                "name": "Idempotency-Key",
                "in": "header",
                "description": "Claim id. The same id with the same body, byte for byte, joins "
                "the activation that it began or is answered again after it. Forgotten with the "
                "activation when that fails, and with the proxy's process.",
                "schema": {
                    "type": "string",
                    "maxLength": LONGEST_ID,
                    "pattern": "^[!-~]([ -~]*[!-~])?$",
                },
            }
        ],
        "requestBody": {"required": True, "content": _json("InitRequest")},
        "responses": {
            "200": {"description": "The server is ready.", "content": _json("InitStatus")},
            "400": _refused("Not a JSON object, or the server is claimed already."),
            "401": _refused("X-Init-API-Key is missing or wrong."),
            "404": _refused("The server does not run with a deferred init."),
            "409": _refused("Another claim holds the server."),
            "413": _refused("The body is larger than a mebibyte, or has more than 2000 values."),
            "415": _refused("The body has a Content-Encoding."),
            "422": _refused(
                "A field is unknown, wrong or not mapped for the upstream, or `env` names a "
                "variable that the proxy sets itself."
            ),
            "500": failed,
            "503": _refused("The proxy is shutting down.") | {"headers": _RETRY},
            "504": failed | {"description": "Not ready within `init.timeout`; undone."},
        },
    }
