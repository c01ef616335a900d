"""The preload plan: a JSON file with the modules that can be preloaded and what that is true for.

    {"version": 1, "identity": {…}, "command": {"kind": "module", "target": "pkg"},
     "names": ["OH_*"], "modules": ["pkg", …], "struck": {"pkg.auth": "reads OH_KEY"}}

Nothing in it is trusted: the fork server watches all the same. A plan for another interpreter,
platform or set of packages is refused, because what its modules do there was never looked at.
"""

from __future__ import annotations

import json
import os

from ..errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1


class Plan:
    __slots__ = ("command", "identity", "modules", "names", "struck")

    def __init__(
        self,
        identity: dict[str, Any],
        command: dict[str, str],
        names: list[str],
        modules: list[str],
        struck: dict[str, str],
    ) -> None:
        self.identity = identity
        self.command = command
        self.names = names
        self.modules = modules
        self.struck = struck

    def to_json(self) -> dict[str, Any]:
        return {"version": VERSION, **{name: getattr(self, name) for name in self.__slots__}}


def load(path: str) -> Plan:
    """Raises `LaunchError` saying what is wrong with the file."""
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise LaunchError("cannot read the plan %s: %s" % (path, error.strerror)) from None
    except ValueError as error:
        raise LaunchError("cannot read the plan %s: it is no JSON: %s" % (path, error)) from None
    return parse(data, path)


def parse(data: Any, path: str) -> Plan:
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise LaunchError("cannot use the plan %s: its version is not %d" % (path, VERSION))
    for key, kind in (
        ("identity", dict),
        ("command", dict),
        ("names", list),
        ("modules", list),
        ("struck", dict),
    ):
        if not isinstance(data.get(key), kind):
            raise LaunchError("cannot use the plan %s: %s is missing or wrong" % (path, key))
    if not all(isinstance(module, str) for module in data["modules"]):
        raise LaunchError("cannot use the plan %s: modules must be strings" % path)
    return Plan(**{name: data[name] for name in Plan.__slots__})


def save(plan: Plan, path: str) -> None:
    """Write all or nothing. Raises `LaunchError`."""
    temporary = "%s.%d.tmp" % (path, os.getpid())
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(plan.to_json(), file, indent=1, sort_keys=True)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        try:
            os.unlink(temporary)
        except OSError:
            pass
        raise LaunchError("cannot write the plan %s: %s" % (path, error.strerror)) from None
