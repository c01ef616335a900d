"""What the upstream's own init is told, so that it means the same there as it means here.

A cold start with the same request is the measure. What the upstream's own init is not told has the
effect of the environment that it was started with: a cold start's for an empty request, but for two
things. The key of its init stands where a secret key may be looked for, and what it has read of its
environment it does not read again.
"""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from proxy.settings import MappingSettings, NativeSettings, UpstreamSettings


def passed_on(
    upstream: UpstreamSettings,
    native: NativeSettings,
    *,
    delivered: Mapping[str, Any],
    environment: Mapping[str, str],
    env: Mapping[str, str],
) -> tuple[bytes, str | None]:
    """The request for the upstream's own init, and why there is none.

    `delivered` and `environment` are the caller's; `env` is what a start would set of it all.
    """
    fields, env = dict(delivered), dict(env)
    keyed = _field_of(upstream.fields_and_files, native.key_env)
    if keyed is not None and keyed not in fields:
        secret = environment.get(native.key_env) or upstream.env.get(native.key_env) or ""
        if not secret.strip():
            return b"", f"no {keyed} follows from it, and its own init has no word for that"
        fields[keyed] = env[native.key_env] = secret
    mapping = upstream.fields_and_files
    for name in sorted(fields):
        if name in mapping.own_fields:
            return b"", f"its own init does not know {name}"
    for path, template in upstream.templates:
        for place in template.places if path[:2] != ("mapping", "variables") else ():
            return b"", f"{place} is needed where its own init does not reach"
    for name in sorted(environment):
        early = any(fnmatchcase(name, pattern) for pattern in native.at_boot)
        if early and name != native.key_env:
            return b"", f"{name} is read before an init of its own"
    # The variables too, so that its own children find what they would find after a cold start.
    body = {**fields, "env": {**dict.fromkeys(native.switch, ""), **env}}
    return json.dumps(body).encode(), None


def _field_of(mapping: MappingSettings, name: str) -> str | None:
    return next((field for field, to in mapping.fields.items() if to.env == name), None)
