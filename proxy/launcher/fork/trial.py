"""One trial of a list of modules for the recorder: import them all under audit, report, end.

Modules known to be unfit are blocked: whatever imports one of them fails, by an error that no
`except ImportError` and no `except Exception` catches, and is thereby found out as well.
"""

from __future__ import annotations

import os
import sys

from ..audit import audit as audit_module
from ..audit.policy import matches, overlap
from ..audit.stack import modules as being_imported
from .traces.state import difference, shared
from .users import Users

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    from ..audit.audit import Audit
    from .traces.leftovers import Leftovers
    from .traces.threads import Threads


# Part of the modules that may be left out for a name that is only likely to be delivered.
BEARABLE = 0.05


class Blocked(BaseException):
    """A module that is blocked was asked for."""


class Trial:
    """Its report is what the recorder is told (see `record`)."""

    def __init__(self, audit: Audit, config: dict[str, Any]) -> None:
        self._audit = audit
        self._patterns = [pattern.lower() for pattern in config["names"]]
        self._likely = [pattern.lower() for pattern in config["likely"]]
        self._blocked = frozenset(config["blocked"])
        self._linger = config["linger"]
        self._struck: dict[str, str] = {}
        self._missing: list[str] = []
        self._hits = 0
        self._state = shared()
        self._changes: dict[str, str] = {}
        self._bearable = 0.0
        audit_module.KEPT = sys.maxsize  # every reader counts here, not just one
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
        self._bearable = len(names) * BEARABLE
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
        self._judge_reads()
        return {
            "event": "report",
            "struck": self._struck,
            "missing": self._missing,
            "hits": self._hits,
            "changes": self._changes,
        }

    def _compare(self, module: str) -> None:
        """Note what it has changed of what all modules share; the last one to do so counts."""
        state = shared()
        while (what := difference(self._state, state)) is not None:
            self._changes[what] = module
            self._state[what] = state[what]

    def _judge_reads(self) -> None:
        for why, stack in self._reads(self._patterns):
            self._strike_all(stack, why)
        for stack in self._audit.everything:
            self._strike_all(stack, "reads the whole environment")
        readers: dict[str, list[tuple[str, ...]]] = {}
        for why, stack in self._reads(self._likely):
            readers.setdefault(why, []).append(stack)
        users = Users() if readers else None
        for why, stacks in readers.items():
            dear = {module for stack in stacks for module in stack} - self._struck.keys()
            if users is not None and len(users.of(dear)) <= self._bearable:
                for stack in stacks:
                    self._strike_all(stack, why)

    def _reads(self, wanted: list[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
        """What was done with names of `wanted`, and the stack of the modules that did it."""
        for name, stacks in self._audit.names.items():
            if matches(name, wanted):
                for stack in stacks:
                    yield "reads %s" % name, stack
        for patterns, stack in self._audit.patterns:
            for name in wanted:
                if any(overlap(name, pattern) for pattern in patterns):
                    yield "reads names like %s" % name, stack
        for name, stack in self._audit.written.items():
            if matches(name, wanted):
                yield "sets %s" % name, stack

    def _strike_all(self, stack: tuple[str, ...], why: str) -> None:
        self._strike(stack[0], why)
        for module in stack[1:]:
            self._strike(module, "imports %s" % stack[0])

    def _strike(self, module: str, why: str) -> None:
        self._struck.setdefault(module, why)
