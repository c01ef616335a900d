"""Which modules cannot be preloaded: who has read what, and who needs whom."""

from __future__ import annotations

from .planfile import cause

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterable

    Read = tuple[str, list[str]]

# Part of all modules, and of the time they take, that may be left out for a name that is only
# likely to be delivered.
BEARABLE = 0.05


class Judge:
    """Knows what each module asks for, and what it takes (`fork.recorded.imports`)."""

    def __init__(self, needed: dict[str, list[str]], seconds: dict[str, float]) -> None:
        self._seconds = seconds
        self._users: dict[str, list[str]] = {}
        for user, modules in needed.items():
            for module in {*modules, user}:
                self._add(module, user)

    def _add(self, module: str, user: str) -> None:
        """A module needs the packages that it is in."""
        while module:
            if module != user:
                self._users.setdefault(module, []).append(user)
            module = module.rpartition(".")[0]

    def verdict(self, report: dict[str, Any], known: dict[str, str]) -> dict[str, str]:
        """Whom `report` strikes that is not `known` to be struck: module -> why."""
        struck: dict[str, str] = dict(report.get("struck", ()))
        _blame(report["reads"], struck)
        likely: dict[str, list[Read]] = {}
        for read in report["likely"]:
            likely.setdefault(read[0], []).append(read)
        for reads in likely.values():
            dear = self._following({m for _, stack in reads for m in stack}, {**known, **struck})
            if self._is_bearable(dear):
                _blame(reads, struck)
        struck.update(self._following(struck, {**known, **struck}))
        return {module: why for module, why in struck.items() if module not in known}

    def costs(self, struck: dict[str, str]) -> dict[str, float]:
        """Seconds that each start takes for those that are struck, by who is to blame for it."""
        found: dict[str, float] = {}
        for module in struck:
            blamed = cause(module, struck)
            found[blamed] = found.get(blamed, 0.0) + self._seconds.get(module, 0.0)
        return {module: round(seconds, 3) for module, seconds in found.items()}

    def _is_bearable(self, modules: Iterable[str]) -> bool:
        seconds = sum(self._seconds.get(module, 0.0) for module in modules)
        return seconds <= BEARABLE * sum(self._seconds.values())

    def _following(self, modules: Iterable[str], known: dict[str, str]) -> dict[str, str]:
        """Who needs one of them, who needs those, and so on."""
        found: dict[str, str] = {}
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            for user in self._users.get(module, ()):
                if user not in known and user not in found:
                    found[user] = "imports %s" % module
                    waiting.append(user)
        return found


def _blame(reads: Iterable[Read], struck: dict[str, str]) -> None:
    for why, stack in reads:
        struck.setdefault(stack[0], why)
        for module in stack[1:]:
            struck.setdefault(module, "imports %s" % stack[0])
