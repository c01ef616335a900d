"""What the launcher is told and given, made from settings and plans."""

from __future__ import annotations

import base64
import dataclasses
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from proxy.lifecycle.plan import PROXY_OWN, Plan, PlannedFile
from proxy.lifecycle.told.requests import PlannedRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from proxy.settings import UpstreamSettings


def command_fields(upstream: UpstreamSettings) -> dict[str, Any]:
    """The command and its environment before anything is delivered, and where files will go."""
    unset = (*upstream.deny_env, *PROXY_OWN)
    fields = _base(upstream.command, upstream.cwd, upstream.env, unset)
    return fields | {"run_dir": upstream.run_dir}


def start_fields(plan: Plan) -> dict[str, Any]:
    """A whole start. It holds everything that was delivered: never log it.

    With what else a proxy that takes over must know of the plan (`started_plan`).
    """
    files = [
        {
            "path": file.path,
            "content": base64.b64encode(file.content).decode(),
            "mode": file.mode,
            "base_file": file.base_file,
        }
        for file in plan.files
    ]
    return _base(plan.argv, plan.cwd, plan.base_env, plan.base_unset) | {
        "env": plan.env,
        "unset": list(plan.unset),
        "files": files,
        "run_dir": plan.run_dir or None,
        "secrets": sorted(plan.secrets),
        "session_keys": list(plan.session_keys),
        "cors_origins": plan.cors_origins,
        "request": plan.request.decode(),
        "fresh": plan.fresh,
        "key": plan.key,
        "requests": [_request_fields(request) for request in plan.requests],
        "untold": plan.untold,
    }


def started_plan(fields: dict[str, Any]) -> Plan:
    """The plan that `start_fields` was made of."""
    files = tuple(
        PlannedFile(
            file["path"], base64.b64decode(file["content"]), file["mode"], file["base_file"]
        )
        for file in fields["files"]
    )
    return Plan(
        argv=tuple(fields["argv"]),
        cwd=fields["cwd"],
        base_env=fields["base_env"],
        base_unset=tuple(fields["base_unset"]),
        env=fields["env"],
        unset=tuple(fields["unset"]),
        files=files,
        run_dir=fields["run_dir"] or "",
        secrets=frozenset(fields["secrets"]),
        session_keys=tuple(fields.get("session_keys", ())),
        cors_origins=None if (to := fields.get("cors_origins")) is None else tuple(to),
        request=fields.get("request", "").encode(),
        fresh=fields.get("fresh"),
        key=fields.get("key", ""),
        requests=tuple(_planned_request(each) for each in fields.get("requests", ())),
        untold=fields.get("untold", False),
    )


def _request_fields(request: PlannedRequest) -> dict[str, Any]:
    body = request.body
    return dataclasses.asdict(request) | {
        "body": base64.b64encode(body).decode() if body is not None else None
    }


def _planned_request(fields: dict[str, Any]) -> PlannedRequest:
    body = fields["body"]
    return PlannedRequest(
        **fields
        | {
            "statuses": tuple(fields["statuses"]),
            "body": base64.b64decode(body) if body is not None else None,
        }
    )


def without(env: Mapping[str, str], patterns: Iterable[str]) -> dict[str, str]:
    """`env` without the names that match one of `patterns` (as `fnmatch`)."""
    patterns = tuple(patterns)
    return {
        name: value
        for name, value in env.items()
        if not any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _base(
    argv: Iterable[str], cwd: str | None, env: Mapping[str, str], unset: Iterable[str]
) -> dict[str, Any]:
    return {"argv": list(argv), "cwd": cwd, "base_env": dict(env), "base_unset": list(unset)}
