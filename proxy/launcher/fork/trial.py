"""One trial of a list of modules for the recorder: import them all under audit, report, end.

Modules known to be unfit are blocked: whatever imports one of them fails, by an error that no
`except ImportError` and no `except Exception` catches, and is thereby found out as well.
"""

from __future__ import annotations

import os
import sys

from ..audit.audit import KEPT
from ..audit.stack import modules as being_imported
from .reads import reads, whole
from .traces.state import difference, shared

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..audit.audit import Audit
    from .reads import Read
    from .traces.leftovers import Leftovers
    from .traces.threads import Threads


class Blocked(BaseException):
    """A module that is blocked was asked for."""


class Trial:
    """Its report is what the recorder is told (see `record`)."""

    def __init__(self, audit: Audit, config: dict[str, Any]) -> None:
        self._audit = audit
        self._patterns = config["names"]
        self._likely = config["likely"]
        self._known = config["settled"]
        self._settled = list(audit.names)  # before the first module
        self._blocked = frozenset(config["blocked"])
        self._linger = config["linger"]
        self._struck: dict[str, str] = {}
        self._missing: list[str] = []
        self._hits = 0
        self._state = shared()
        self._changes: dict[str, str] = {}
        audit.kept = sys.maxsize  # every reader counts here, not just one
        sys.meta_path.insert(0, self)

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> None:
        """Part of the import system: refuses what is blocked, leaves the rest to others."""
        if name in self._blocked:
            self._hits += 1
            for module in being_imported():
                self._strike(module, "imports %s" % name)
            raise Blocked(name)

    def run(
        self,
        names: list[str],
        leftovers: Leftovers,
        threads: Threads,
        step: Callable[[str, int], None],
    ) -> dict[str, Any]:
        """Import them all; returns the report."""
        for done, name in enumerate(names):
            if name in self._blocked or name in self._struck:
                continue
            step(name, done)
            pid = os.getpid()
            try:
                __import__(name)
            except Blocked as blocked:
                self._strike(name, "needs %s" % blocked)
            except ModuleNotFoundError:
                self._missing.append(name)  # made up at run time, or a name without a file
            except BaseException as error:  # noqa: BLE001  whatever it is, the module is unfit
                self._strike(name, "raises %s" % type(error).__name__)
            finally:
                if os.getpid() != pid:
                    os._exit(0)
            self._audit.imported(name)
            self._compare(name)
            threads.look(name)
            fault = leftovers.check()
            if fault:
                self._strike(name, fault)
        for name, fault in threads.wait(self._linger).items():
            self._strike(name, fault)
        return {
            "event": "report",
            "struck": self._struck,
            "missing": self._missing,
            "hits": self._hits,
            "changes": self._changes,
            "settled": self._settled,
            "reads": self._reads(self._patterns) + whole(self._audit),
            "likely": self._reads(self._likely),
        }

    def _reads(self, wanted: list[str]) -> list[Read]:
        return reads(self._audit, wanted, self._known)

    def end(self) -> None:
        """Nothing was struck: leave no trace."""
        sys.meta_path.remove(self)
        for stacks in self._audit.names.values():
            del stacks[KEPT:]

    def _compare(self, module: str) -> None:
        """Note what it has changed of what all modules share; the last one to do so counts."""
        state = shared()
        while (what := difference(self._state, state)) is not None:
            self._changes[what] = module
            self._state[what] = state[what]

    def _strike(self, module: str, why: str) -> None:
        self._struck.setdefault(module, why)
