"""Watches what is read from the environment and which files are opened while modules are preloaded.

`os.environ` and `os.environb` keep their identity: what is exchanged is the dictionary inside
them, which every one of their methods goes through, and `posix.environ`, which is the same
dictionary. `remove` puts the very same objects back. An audit hook cannot be taken off: after
`remove` it is a function of the interpreter's that does nothing.

What native code reads through getenv(3) is not seen here: see `native` and `policy`.
"""

from __future__ import annotations

import functools
import os
import posix
import sys
from contextlib import contextmanager

from .policy import iterated, matches
from .sightings import Sightings
from .stack import caller, in_view, is_own, modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

    Modules = tuple[str, ...]  # who was being imported, innermost first

CODE: Modules = ("the import system",)
_CODE_ENDINGS = (".py", ".pyc", ".so")
KEPT = 4  # different import stacks kept per name; one is proof enough
# Starting a program hands the whole environment on, unless the call names another one.
_HAND_ON = {
    "subprocess.Popen": 3,  # index of the env argument
    "os.exec": 2,
    "os.posix_spawn": 2,
    "os.spawn": 3,
    "os.system": None,
    "os.fork": None,
    "os.forkpty": None,
    "pty.spawn": None,
}
# What the C library has the environment by, asked for with ctypes.
_GETTERS = frozenset(["getenv", "secure_getenv", "__secure_getenv", "environ", "__environ"])


class Audit:
    """`names`: name -> stacks of the modules that read it; `everything`: stacks that read them all.

    `patterns`: stacks that read all names of some lower-case patterns. `written`: names that
    modules set or removed. `opened`: path -> stack.
    """

    def __init__(self) -> None:
        self.names: dict[str, list[Modules]] = {}
        self.everything: list[Modules] = []
        self.patterns: list[tuple[tuple[str, ...], Modules]] = []
        self.written: dict[str, Modules] = {}
        self.opened: dict[str, Modules] = {}
        self.listed: dict[str, Modules] = {}
        self.asked: dict[str, Modules] = {}
        self.forked: list[Modules] = []
        self._active = False
        self._data: Any = None
        self._installed: Any = None
        self._sightings: tuple[Sightings, Sightings] | None = None

    def install(self) -> None:
        self._data = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
        self._put(Watched(self._data, self))
        self._installed = functools.partial(self._hook)
        sys.addaudithook(self._installed)
        self._active = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For what this process does on its own account."""
        self._active = False
        try:
            yield
        finally:
            self._active = True

    def to_json(self) -> dict[str, Any]:
        return {
            "names": self.names,
            "everything": self.everything,
            "patterns": self.patterns,
            "written": self.written,
            "opened": {path: stack for path, stack in self.opened.items() if stack is not CODE},
            "listed": self.listed,
        }

    def absorb(self, data: dict[str, Any]) -> None:
        """Add what another audit has found (`to_json`)."""
        for name, stacks in data["names"].items():
            self.names.setdefault(name, []).extend(tuple(stack) for stack in stacks)
        self.everything += [tuple(stack) for stack in data["everything"]]
        self.patterns += [(tuple(names), tuple(stack)) for names, stack in data["patterns"]]
        for key in ("written", "opened", "listed"):
            for name, stack in data[key].items():
                getattr(self, key).setdefault(name, tuple(stack))

    def finish(self) -> None:
        """Nothing more comes that a fork could hold: remove it, and be quick to answer."""
        self._sightings = self._look_at_paths()
        self.remove()

    def remove(self) -> None:
        self._active = False
        self._put(self._data)
        # It is called for thousands of events while an upstream starts: `{}.get(event, args)`
        # costs less than the shortest function in Python would.
        self._installed.__setstate__(({}.get, (), {}, None))

    def _put(self, data: Any) -> None:
        os.environ._data = data  # type: ignore[attr-defined]  # noqa: SLF001
        os.environb._data = data  # type: ignore[attr-defined]  # noqa: SLF001
        posix.environ = data

    def readers(self, name: str) -> Modules | None:
        """Who was being imported when `name` was read or written; None when it was not."""
        stacks = self.names.get(name)
        if stacks:
            return stacks[0]
        for patterns, stack in self.patterns:
            if matches(name, patterns):
                return stack
        if self.everything:
            return self.everything[0]
        return self.written.get(name)

    def readers_of_file(self, path: str) -> Modules | None:
        """Who was being imported when `path` was opened or its directory listed."""
        path = os.path.abspath(path)
        if path in self.opened:
            return self.opened[path]
        for name, stack in self.asked.items():
            if path == name or path.startswith(name + os.sep) or _same(path, name):
                return stack
        opened, listed = self._sightings or self._look_at_paths()
        other = opened.file(path)
        if other is not None:
            return self.opened[other]
        other = listed.directory(os.path.dirname(path))
        return None if other is None else self.listed[other]

    def _look_at_paths(self) -> tuple[Sightings, Sightings]:
        read = [path for path, stack in self.opened.items() if stack is not CODE]
        return Sightings(read), Sightings(self.listed)

    def note_asked(self, path: str) -> None:
        """A module has asked about a file without opening it."""
        if self._active:
            self._note_path(self.asked, path)

    def _note_path(self, seen: dict[str, Modules], path: object) -> None:
        if isinstance(path, (str, bytes)):
            name = os.path.abspath(os.fsdecode(path))
            if name not in seen:
                # The import system's own reading is most of all reading, and is not looked into.
                seen[name] = CODE if name.endswith(_CODE_ENDINGS) else modules()

    def note(self, key: object) -> None:
        if self._active:
            name = _name(key)
            stacks = self.names.setdefault(name, [])
            if len(stacks) < KEPT:
                stack = modules()
                if stack not in stacks:
                    stacks.append(stack)

    def note_write(self, key: object) -> None:
        if self._active:
            self.written.setdefault(_name(key), modules())

    def note_all(self) -> None:
        if not self._active:
            return
        frame = caller()
        kept = iterated(frame) if frame is not None else None
        stack = modules()
        if kept is None:
            if stack not in self.everything:
                self.everything.append(stack)
        elif (kept, stack) not in self.patterns:
            self.patterns.append((kept, stack))

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._active:
            return
        if _tells_everything(event, args):
            self.note_all()
        if event == "open":
            self._note_path(self.opened, args[0])
        elif event in ("os.listdir", "os.scandir"):
            self._note_path(self.listed, args[0] or ".")
        elif event in ("os.putenv", "os.unsetenv"):
            self.note_write(args[0])
        elif event in _HAND_ON and not is_own(sys._getframe(1)):  # noqa: SLF001
            at = _HAND_ON[event]
            if at is None or len(args) <= at or args[at] is None:
                self.note_all()
            if event.startswith("os.fork"):
                self.forked.append(modules())


class Watched:
    """Stands in for the dictionary inside `os.environ`; notes every look at it."""

    __slots__ = ("_audit", "_data")

    def __init__(self, data: dict[bytes, bytes], audit: Audit) -> None:
        self._data = data
        self._audit = audit

    def __getitem__(self, key: bytes) -> bytes:
        if not in_view():
            self._audit.note(key)
        return self._data[key]

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        self._audit.note(key)
        return self._data.get(key, default)

    def __contains__(self, key: object) -> bool:
        self._audit.note(key)
        return key in self._data

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._audit.note_write(key)
        self._data[key] = value

    def __delitem__(self, key: bytes) -> None:
        self._audit.note_write(key)
        if key not in self._data:
            self._audit.note(key)  # the KeyError tells that it was absent
        del self._data[key]

    def __iter__(self) -> Iterator[bytes]:
        self._audit.note_all()
        return iter(self._data)

    def __len__(self) -> int:
        self._audit.note_all()
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        """Any other method of a dictionary: taken as a look at everything."""
        self._audit.note_all()
        return getattr(self._data, name)

    def __eq__(self, other: object) -> bool:
        self._audit.note_all()
        return bool(self._data == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._audit.note_all()
        return repr(self._data)


def _tells_everything(event: str, args: tuple[Any, ...]) -> bool:
    """Whether the environment is looked at where it is not `os.environ`: in the kernel, or in C.

    A process's own is `/proc/self/environ` (proc(5)), or by any other way a file of that name.
    """
    if event == "open":
        path = args[0]
        named = isinstance(path, (str, bytes)) and os.path.basename(os.fsdecode(path))
        return named == "environ"
    return event == "ctypes.dlsym" and args[1] in _GETTERS


def _name(key: object) -> str:
    """As the launcher writes names, whatever the locale."""
    if isinstance(key, str):
        key = os.fsencode(key)
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else repr(key)


def _same(one: str, other: str) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False  # one of them is gone
