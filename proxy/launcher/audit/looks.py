"""Which files were looked at while modules were preloaded, and on whose behalf.

Paths are made absolute when they are seen: a relative one by the working directory of that moment,
one beside a descriptor (`dir_fd`, `listdir(fd)`) by what the descriptor stands for.
"""

from __future__ import annotations

import os
import posix

from .sightings import Sightings
from .stack import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Modules = tuple[str, ...]

CODE: Modules = ("the import system",)
_CODE_ENDINGS = (".py", ".pyc", ".so")
_readlink = posix.readlink  # not the one that `lookout` puts in its place
# Event -> (index of a path, index of the descriptor that it is relative to, if any). Whoever makes
# a link, renames or changes a file learns whether it is there, or has its content by another name.
_ASKING: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.link": ((0, 2), (1, 3)),
    "os.rename": ((0, 2), (1, 3)),
    "os.symlink": ((1, 2),),
    "os.remove": ((0, 1),),
    "os.rmdir": ((0, 1),),
    "os.mkdir": ((0, 2),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.utime": ((0, 3),),
    "os.truncate": ((0, None),),
    "os.getxattr": ((0, None),),
    "os.setxattr": ((0, None),),
    "os.listxattr": ((0, None),),
    "os.removexattr": ((0, None),),
}


class Looks:
    """`opened`, `listed`: path -> import stack; `asked`: the same, also of what is below a path.

    `blind`: who did something that may read any file.
    """

    def __init__(self) -> None:
        self.opened: dict[str, Modules] = {}
        self.listed: dict[str, Modules] = {}
        self.asked: dict[str, Modules] = {}
        self.blind: list[Modules] = []
        self._sightings: tuple[Sightings, Sightings] | None = None

    def to_json(self) -> dict[str, Any]:
        opened = {path: stack for path, stack in self.opened.items() if stack is not CODE}
        return {"opened": opened, "listed": self.listed, "asked": self.asked, "blind": self.blind}

    def absorb(self, data: dict[str, Any]) -> None:
        for key in ("opened", "listed", "asked"):
            for name, stack in data[key].items():
                getattr(self, key).setdefault(name, tuple(stack))
        self.blind += [tuple(stack) for stack in data["blind"]]

    def hear(self, event: str, args: tuple[Any, ...]) -> None:
        """An audit event, whichever it is."""
        if event == "open":
            if isinstance(args[0], (str, bytes)):
                _note(self.opened, args[0])
        elif event in ("os.listdir", "os.scandir"):
            _note(self.listed, "." if args[0] is None else args[0])
        elif event in _ASKING:
            for path, beside in _ASKING[event]:
                _note(self.asked, args[path], None if beside is None else args[beside])
            if event == "os.symlink" and isinstance(args[0], (str, bytes)):
                where = os.path.dirname(absolute(args[1], args[2]) or ".")
                _note(self.asked, os.path.join(where, os.fsdecode(args[0])))
        elif event == "sqlite3.connect":
            self.note_blind()  # and what it attaches, which nobody is told of

    def note_asked(self, path: str) -> None:
        """A module has asked about a file without opening it."""
        _note(self.asked, path)

    def note_blind(self, stack: Modules | None = None) -> None:
        stack = stack or modules()
        if stack not in self.blind:
            self.blind.append(stack)

    def finish(self) -> None:
        """Nothing more comes: be quick to answer."""
        self._sightings = self._look()

    def readers(self, path: str, *, known: bool = True) -> Modules | None:
        """Who was being imported when the file was looked at, or its directory listed.

        `known`: whether its name can be known to somebody whose looks are not seen.
        """
        path = os.path.abspath(path)
        if path in self.opened:
            return self.opened[path]
        for name, stack in self.asked.items():
            if path == name or path.startswith(name + os.sep) or _same(path, name):
                return stack
        opened, listed = self._sightings or self._look()
        other = opened.file(path)
        if other is not None:
            return self.opened[other]
        other = listed.directory(os.path.dirname(path))
        if other is not None:
            return self.listed[other]
        return self.blind[0] if known and self.blind else None

    def _look(self) -> tuple[Sightings, Sightings]:
        read = [path for path, stack in self.opened.items() if stack is not CODE]
        return Sightings(read), Sightings(self.listed)


def absolute(path: object, beside: object = None) -> str | None:
    """The path that is meant; None for what is none. `beside` is a descriptor, if not negative."""
    if isinstance(path, int):
        return _of_descriptor(path)
    if not isinstance(path, (str, bytes)):
        return None
    name = os.fsdecode(path)
    if isinstance(beside, int) and beside >= 0:
        name = os.path.join(_of_descriptor(beside) or "", name)
    return os.path.abspath(name)


def _of_descriptor(fd: int) -> str | None:
    try:
        return _readlink("/proc/self/fd/%d" % fd)
    except OSError:
        return None


def _note(seen: dict[str, Modules], path: object, beside: object = None) -> None:
    name = absolute(path, beside)
    if name is not None and name not in seen:
        # The import system's own reading is most of all reading, and is not looked into.
        seen[name] = CODE if name.endswith(_CODE_ENDINGS) else modules()


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them is gone
