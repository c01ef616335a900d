"""Who uses whom, as it can be seen in the namespaces of the modules that are loaded.

An estimate, for judging beforehand what it would cost to leave a module out: it has neither the
imports that bind nothing nor those that functions make later.
"""

from __future__ import annotations

import sys
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable


class Users:
    def __init__(self) -> None:
        self._users: dict[str, set[str]] = {}
        finished: set[str] = set()
        for name, module in list(sys.modules.items()):  # in the order in which they were finished
            finished.add(name)
            self._add(name.rpartition(".")[0], name)
            try:
                values = list(object.__getattribute__(module, "__dict__").values())
            except AttributeError:
                continue  # something else in the place of a module
            # What was not there by then has been put into the module by somebody else.
            for used in {_home(value, name) for value in values} & finished:
                self._add(used, name)

    def _add(self, used: str, user: str) -> None:
        if used not in ("", user):
            self._users.setdefault(used, set()).add(user)

    def of(self, modules: Iterable[str]) -> set[str]:
        """These, who uses them, who uses those, and so on."""
        found: set[str] = set()
        waiting = list(modules)
        while waiting:
            module = waiting.pop()
            if module not in found:
                found.add(module)
                waiting += self._users.get(module, ())
        return found


def _home(value: object, where: str) -> str:
    """The module that a value in the namespace `where` is, or comes from.

    Every package has the modules in it, whether it uses them or not.
    """
    if type(value) is ModuleType:
        return "" if value.__name__.rpartition(".")[0] == where else value.__name__
    try:
        home = object.__getattribute__(value, "__module__")
    except Exception:  # noqa: BLE001  it has none, or a class of its own kind
        return ""
    return home if isinstance(home, str) else ""
