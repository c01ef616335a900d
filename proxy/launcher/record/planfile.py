"""The preload plan: a JSON file with the modules that can be preloaded and what that is true for.

    {"version": 1, "identity": {…}, "command": {"kind": "module", "target": "pkg"},
     "names": ["OH_*"], "modules": ["pkg", …], "struck": {"pkg.auth": "reads OH_KEY"},
     "seconds": {"cold": 6.3, "warm": 0.3}, "costs": {"pkg.auth": 0.2},
     "processes": 0}

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
WORTH_A_WORD = 0.1  # seconds
SHOWN = 5  # of what was struck, which may be thousands


class Plan:
    """`seconds` are those from a start to readiness, as the recording has seen them.

    `costs` are those that each start takes to import what was struck, by who is to blame for it.
    `processes` it had started, not forked, when it was ready: what these import was not looked at.
    """

    __slots__ = (
        "command",
        "costs",
        "identity",
        "modules",
        "names",
        "processes",
        "seconds",
        "struck",
    )

    def __init__(
        self,
        identity: dict[str, Any],
        command: dict[str, str],
        names: list[str],
        modules: list[str],
        struck: dict[str, str],
        *,
        seconds: dict[str, float],
        costs: dict[str, float],
        processes: int,
    ) -> None:
        self.identity = identity
        self.command = command
        self.names = names
        self.modules = modules
        self.struck = struck
        self.seconds = seconds
        self.costs = costs
        self.processes = processes

    def worth(self) -> dict[str, Any]:
        """What a fork server of these modules is said to be worth."""
        loaded = len(self.modules) + len(self.struck)
        struck = [summary(self.struck, self.costs)] if self.struck or not self.processes else []
        if self.processes:
            struck.append("what the processes import that it starts (%d)" % self.processes)
        return {"loaded": loaded, "recorded": self.seconds, "struck": ", ".join(struck)}

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
    data.setdefault("seconds", {})
    data.setdefault("costs", {})
    data.setdefault("processes", 0)
    for key, kind in (
        ("seconds", dict),
        ("costs", dict),
        ("processes", int),
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


def summary(found: dict[str, str], costs: dict[str, float] | None = None) -> str:
    """What is struck: causes first, the dearest of them first; then who imports or needs them."""
    dear = costs or {}
    ordered = sorted(
        found, key=lambda name: (leader(found[name]) is not None, -dear.get(name, 0), name)
    )
    texts = [_text(name, found[name], dear.get(name, 0)) for name in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        texts.append("%d more" % (len(ordered) - SHOWN))
    return ", ".join(texts) or "nothing"


def _text(name: str, why: str, seconds: float) -> str:
    took = " (%.1f s)" % seconds if seconds >= WORTH_A_WORD else ""
    return "%s %s%s" % (name, why, took)


def leader(why: str) -> str | None:
    """Whom a module follows out."""
    verb, _, rest = why.partition(" ")
    return rest.partition(" ")[0] if verb in {"imports", "needs"} else None


def cause(name: str, struck: dict[str, str]) -> str:
    """Who is to blame in the end for what was struck."""
    seen = {name}
    while True:
        other = leader(struck[name])
        if other is None or other not in struck or other in seen:
            return name
        seen.add(other)
        name = other


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
