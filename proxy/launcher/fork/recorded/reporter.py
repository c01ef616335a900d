"""Lives in the upstream while it is being recorded, and tells what it has loaded and made.

Modules are told in the order in which their imports began: one that is imported under the care of
another (within a `try`, or with a setting that is put back afterwards) comes after that one, and is
never imported by itself. `sys.modules` has them as they were finished. What the upstream has made
is removed when the recording is done. It is a thread of its own, because the upstream must not
notice. A process that the upstream forks has one as well: workers that load what they serve are
what a preload is for. Used in recording runs only.

With the names that may be delivered it tells also what was done with them while something was being
imported. What the program does with them otherwise does not concern a preload.
"""

from __future__ import annotations

import array
import json
import os
import socket
import sys
import threading

from ...audit.audit import Audit
from ...audit.calls import executed
from ...audit.stack import importing
from .. import reads
from ..traces.state import whole
from .imports import Imports

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MAKING = frozenset("wxa+")


class Reporter:
    """`fd` is a socket to which it sends one that it is asked by, and so do processes forked later.

    `names`: patterns of those that will (`names`) or may (`likely`) be delivered; or none.
    Nobody is told of for those that are `settled` (see `fork.reads`).
    """

    def __init__(self, fd: int, names: dict[str, list[str]]) -> None:
        self._names = names
        self._imports = Imports()
        self._imports.install()
        self._audit = Audit(importing, names_only=True)
        self._audit.kept = sys.maxsize
        if names:
            self._audit.install()
        self._ends = socket.socket(fileno=fd)
        self._inode = os.fstat(fd).st_ino
        self._made: dict[str, None] = {}
        self._begun: dict[str, None] = {}
        self._open()
        os.register_at_fork(after_in_child=self._reopen)
        sys.addaudithook(self._hook)

    def _open(self) -> None:
        self._socket, end = socket.socketpair()
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [end.fileno()]))
        with end:
            self._ends.sendmsg([b"+"], [rights], socket.MSG_DONTWAIT)
        threading.Thread(target=self._serve, name="reporter", daemon=True).start()

    def _reopen(self) -> None:
        """In a process that was just forked."""
        try:
            self._socket.close()
            # One that closes all descriptors, as daemons do, may have another there.
            if os.fstat(self._ends.fileno()).st_ino == self._inode:
                self._open()
        except OSError:
            pass  # nobody asks any more, or too many are asked; this one goes unheard

    def _serve(self) -> None:
        """One report per byte received: "m" asks for what it has made only."""
        while asked := self._socket.recv(1):
            report: dict[str, Any] = {"made": list(self._made)}
            if asked != b"m":
                report.update(self._report())
            self._socket.sendall(json.dumps(report).encode() + b"\n")

    def _report(self) -> dict[str, Any]:
        loaded = dict.fromkeys(sys.modules)
        order = [name for name in self._begun if name in loaded]
        return {
            "modules": list(dict.fromkeys([*order, *loaded])),
            "state": whole(),
            "seconds": dict(self._imports.seconds),
            **(self._told() if self._names else {}),
        }

    def _told(self) -> dict[str, Any]:
        needed, settled = self._imports.needed, self._names["settled"]
        said = {kind: self._names[kind] for kind in ("names", "likely")}
        found = {kind: reads.reads(self._audit, said[kind], settled) for kind in said}
        return {
            "needed": {name: list(needed.get(name, ())) for name in list(sys.modules)},
            "reads": found["names"] + reads.whole(self._audit),
            "likely": found["likely"],
        }

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "import":
            self._begins(args[0])
        elif event == "exec":
            self._begins(executed())  # the only word of `importlib.import_module`
        elif event == "open":
            path, mode, flags = args
            if (flags or 0) & os.O_CREAT or (mode and not _MAKING.isdisjoint(mode)):
                self._note(path)
        elif event in ("os.mkdir", "sqlite3.connect"):
            self._note(args[0])
        elif event in ("os.rename", "os.link", "os.symlink"):
            self._note(args[1])

    def _begins(self, module: str | None) -> None:
        """It, and the packages that it is in, whose imports are part of its own."""
        if module is not None and module not in self._begun:
            for end, letter in enumerate(module):
                if letter == ".":
                    self._begun.setdefault(module[:end])
            self._begun[module] = None

    def _note(self, path: object) -> None:
        if isinstance(path, (str, bytes)):
            name = os.path.abspath(os.fsdecode(path))
            if not os.path.lexists(name):
                self._made[name] = None
