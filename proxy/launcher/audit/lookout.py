"""Notices when a module asks about a file that an init may write, without opening it.

The interpreter has audit events for opening files and listing directories, but none for stat(2).
A module that finds `/etc/app.json` absent at import and remembers that would be as stale as one
that has read it. So, where a plan may write to known places, the functions of `os` that ask are
wrapped while modules are preloaded, wherever a module that is loaded already (`pathlib` before
3.11) has them by a name of its own.

A module may keep a wrapper (`from os import stat`): it goes on working as the function it wraps.
Nothing of this is installed when all files of a plan go to a directory whose name nobody knows.
"""

from __future__ import annotations

import os
import sys
from _thread import get_ident
from types import ModuleType

from .looks import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

ASKING = ("stat", "lstat", "access", "readlink", "statvfs", "open")
# Has what `os` has, and reads modules with it.
_IMPORT_SYSTEM = (
    "_frozen_importlib",
    "_frozen_importlib_external",
    "importlib._bootstrap_external",
)
_HEAP = 1 << 9  # Py_TPFLAGS_HEAPTYPE: a class whose attributes can be set
_SUPPORT = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")


class Lookout:
    """Calls `note(path)` for every question about one of `paths`, or a directory they lack."""

    def __init__(self, paths: list[str], note: Callable[[str], None]) -> None:
        self._note = note
        self._watched = {name for path in paths for name in _affected(path)}
        self._names = {os.path.basename(path) for path in self._watched}
        self._wrapped: list[Asking] = []
        self._replaced: list[tuple[Any, str, Any]] = []  # owner, name, what it was
        self._looking: set[int] = set()  # threads that look for us

    def install(self) -> None:
        wrappers = {}
        for name in ASKING:
            function = getattr(os, name)
            wrapper = Asking(function, self._look)
            self._wrapped.append(wrapper)
            wrappers[id(function)] = wrapper
            for support in _SUPPORT:  # sets that programs look the functions up in
                if function in getattr(os, support):
                    getattr(os, support).add(wrapper)
        for owner in list(_owners()):
            for name, value in list(vars(owner).items()):
                function = value.__func__ if isinstance(value, staticmethod) else value
                if id(function) in wrappers:
                    self._replaced.append((owner, name, value))
                    setattr(owner, name, wrappers[id(function)])

    def remove(self) -> None:
        for owner, name, value in self._replaced:
            setattr(owner, name, value)
        for wrapper in self._wrapped:
            for support in _SUPPORT:
                getattr(os, support).discard(wrapper)
        self._replaced.clear()
        self._wrapped.clear()
        self._names.clear()

    def _look(self, path: object, beside: object) -> None:
        thread = get_ident()
        if isinstance(path, int) or thread in self._looking:
            return  # opened before, and that was seen; or it is we who ask
        name = absolute(os.fspath(path), beside)  # type: ignore[call-overload]
        if name is None or os.path.basename(name) not in self._names:
            return
        self._looking.add(thread)
        try:
            directory = os.path.realpath(os.path.dirname(name))
            real = os.path.join(directory, os.path.basename(name))
            if {name, real, os.path.realpath(name)} & self._watched:
                self._note(name)
        finally:
            self._looking.discard(thread)


class Asking:
    """In the place of one of the functions; no method when it is a class's attribute, as they."""

    def __init__(self, function: Callable[..., Any], look: Callable[..., None]) -> None:
        self._function = function
        self._look = look
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, path: Any, *args: Any, **options: Any) -> Any:
        try:
            self._look(path, options.get("dir_fd"))
        except (TypeError, ValueError):
            pass  # no path: the function itself says so
        return self._function(path, *args, **options)


def _owners() -> Iterator[Any]:
    """Every loaded module and every class in one, but the import system's own."""
    for name, module in list(sys.modules.items()):
        if isinstance(module, ModuleType) and name not in _IMPORT_SYSTEM:
            yield module
            for value in list(vars(module).values()):
                if type(value) is type and value.__flags__ & _HEAP:
                    yield value


def _affected(path: str) -> list[str]:
    """The path, and the directories above it that would have to be made."""
    found = []
    path = os.path.abspath(path)
    while path != os.path.dirname(path):
        found += [path, os.path.realpath(path)]
        path = os.path.dirname(path)
        if os.path.lexists(path):
            break
    return found
