"""What the controller asks to have preloaded, checked."""

from __future__ import annotations

import math

from ..errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

LINGER = 10.0  # seconds given to threads that modules have started
TIMEOUT = 60.0  # seconds for a preload, when the controller has not said otherwise
# Seconds of rest before a recording that has failed or was cut short is begun again: longer than
# a controller waits at most before it starts an upstream that has died again.
REST = 15.0


class Preload:
    """The controller's `preload`, checked. Raises `LaunchError`."""

    def __init__(self, data: dict[str, Any]) -> None:
        modules = data.get("modules", [])
        self.auto = modules == "auto"
        self.modules = [] if self.auto else _strings(modules, "preload.modules")
        self.plan = data.get("plan")
        if self.plan is not None and not isinstance(self.plan, str):
            raise LaunchError("preload.plan must be a path")
        self.names = _strings(data.get("names", []), "preload.names")
        self.likely = _strings(data.get("likely", []), "preload.likely")
        timeout = data.get("timeout", TIMEOUT)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or timeout <= 0:
            raise LaunchError("preload.timeout must be a number of seconds above 0")
        self.timeout = float(timeout) if math.isfinite(timeout) else TIMEOUT
        self.files = _strings(data.get("files", []), "preload.files")
        self.linger = float(data.get("linger", LINGER))
        self.rest = float(data.get("rest", REST))
        self.ready = ready_of(data.get("ready"))
        # When a user's code first ran here, in seconds of the epoch; None: never yet.
        since = data.get("used_since")
        self.used_since = float(since) if isinstance(since, (int, float)) else None


def ready_of(data: Any) -> dict[str, Any] | None:
    if data is None:
        return None
    if (
        isinstance(data, dict)
        and isinstance(data.get("address"), str)
        and isinstance(data.get("path"), (str, type(None)))
        and isinstance(data.get("statuses"), list)
    ):
        return data
    raise LaunchError("preload.ready must have address, path and statuses")


def _strings(value: Any, where: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise LaunchError("%s must be a list of strings" % where)
    return list(value)
