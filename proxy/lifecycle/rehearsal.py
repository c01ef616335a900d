"""An init that nobody has posted, of made-up values, for a start that serves nobody.

Each field that the mapping knows has a value of its type, so that a server which refuses to start
without them comes up. Paths lead into the directory that is taken away with the start. No value is
ever made twice.
"""

from __future__ import annotations

import dataclasses
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

from proxy.lifecycle.contract import parse_init_request
from proxy.lifecycle.plan import build_plan

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.lifecycle.plan import Plan
    from proxy.settings import FieldType, UpstreamSettings

_KEY: Final = "rehearsal"  # marks an upstream that is nobody's, as the key of a dormant one does
_HERE: Final = "http://localhost"


def rehearsal_plan(upstream: UpstreamSettings, *, run_dir: str) -> Plan:
    """Raises `InvalidFieldError` when a server wants what cannot be made up."""
    mapping = upstream.fields_and_files
    places = (place for _, template in upstream.templates for place in template.places)
    variables = [place.variable for place in places if place.variable is not None]
    made = made_up(mapping.fields, mapping.own_fields, variables, f"{run_dir}/rehearsal")
    request = parse_init_request(json.dumps(made).encode(), mapping.own_fields)
    plan = build_plan(upstream, request, run_dir=run_dir)
    return dataclasses.replace(plan, run_dir=run_dir, key=_KEY, requests=(), untold=False)


def made_up(
    fields: Iterable[str],
    own_fields: Mapping[str, FieldType],
    variables: Iterable[str],
    directory: str,
) -> dict[str, Any]:
    """The body of an init with all of `fields`, and with `variables` in its `env`."""
    known: dict[str, Any] = {
        "session_api_keys": [_text()],
        "secret_key": _text(),
        "previous_secret_keys": [_text()],
        "env": {},
        "webhooks": [],
        "web_url": _HERE,
        "allow_cors_origins": [_HERE],
        "max_concurrent_runs": 1,
        "telemetry": {},
    }
    made: dict[str, Any] = {}
    for name in fields:
        kind = own_fields.get(name)
        if kind is not None:
            made[name] = _of_type(kind, f"{directory}/{name}")
        else:
            made[name] = known.get(name, f"{directory}/{name}")
    return made | {"env": {name: _text() for name in variables}}


def _of_type(kind: FieldType, path: str) -> Any:
    by_type = {"list": [_text()], "path": path, "integer": 1}
    return by_type.get(kind, _text())


def _text() -> str:
    return f"rehearsal-{secrets.token_hex(16)}"
