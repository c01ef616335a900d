"""An upstream that runs while it is dormant: how it is started, and what it cannot be told."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Final

from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.plan import Plan, build_plan

if TYPE_CHECKING:
    from proxy.settings import UpstreamSettings

_NO_KEY: Final = "standby"  # it has no init of its own that would want one


def standby_plan(upstream: UpstreamSettings, *, run_dir: str) -> Plan:
    """How the upstream is started that waits for requests: configured as the pod is."""
    plan = build_plan(upstream, InitRequest(), run_dir=run_dir, complete=False)
    return dataclasses.replace(plan, key=_NO_KEY)


def unlike(running: Plan, plan: Plan) -> str | None:
    """What `plan` starts otherwise than the upstream that was started by `running`, or None."""
    for name in sorted({*running.env, *plan.env}):
        if running.env.get(name) != plan.env.get(name):
            return f"{name} is told by no request"
    if running.argv != plan.argv:
        return "its arguments are told by no request"
    if running.cwd != plan.cwd:
        return "its working directory is told by no request"
    for before, after in zip(running.files, plan.files, strict=True):
        if before != after:
            return f"{after.path} is told by no request"
    return None
