"""Notices when a module asks about a file that an init may write, without opening it.

The interpreter has audit events for opening files and listing directories, but none for stat(2).
A module that finds `/etc/app.json` absent at import and remembers that would be as stale as one
that has read it. So, where a plan may write to known places, the functions of `os` that ask are
wrapped while modules are preloaded.

A module may keep a wrapper (`from os import stat`): it goes on working as the function it wraps.
Nothing of this is installed when all files of a plan go to a directory whose name nobody knows.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

ASKING = ("stat", "lstat", "access", "readlink", "statvfs")
_SUPPORT = ("supports_dir_fd", "supports_fd", "supports_follow_symlinks", "supports_effective_ids")


class Lookout:
    """Calls `note(path)` for every question about one of `paths`, or a directory they lack."""

    def __init__(self, paths: list[str], note: Callable[[str], None]) -> None:
        self._note = note
        self._watched = {name for path in paths for name in _affected(path)}
        self._names = {os.path.basename(path) for path in self._watched}
        self._wrapped: list[tuple[str, Any, Any]] = []

    @property
    def works(self) -> bool:
        """Before Python 3.10, `pathlib` has its own copies of the functions."""
        return sys.version_info >= (3, 10) or "pathlib" not in sys.modules

    def install(self) -> None:
        for name in ASKING:
            function = getattr(os, name)
            wrapper = Asking(function, self._look)
            self._wrapped.append((name, function, wrapper))
            setattr(os, name, wrapper)
            for support in _SUPPORT:  # sets that programs look the functions up in
                if function in getattr(os, support):
                    getattr(os, support).add(wrapper)

    def remove(self) -> None:
        for name, function, wrapper in self._wrapped:
            setattr(os, name, function)
            for support in _SUPPORT:
                getattr(os, support).discard(wrapper)
        self._wrapped.clear()
        self._names.clear()

    def _look(self, path: object, *, relative: bool) -> None:
        if isinstance(path, int):
            return  # opened before, and that was seen
        name = os.path.abspath(os.fsdecode(path))  # type: ignore[arg-type]
        if os.path.basename(name) in self._names and (
            relative or name in self._watched or os.path.realpath(name) in self._watched
        ):
            self._note(name)


class Asking:
    """In the place of one of the functions; no method when it is a class's attribute, as they."""

    def __init__(self, function: Callable[..., Any], look: Callable[..., None]) -> None:
        self._function = function
        self._look = look
        self.__name__ = function.__name__
        self.__doc__ = function.__doc__

    def __call__(self, path: Any, *args: Any, **options: Any) -> Any:
        try:
            self._look(path, relative=options.get("dir_fd") is not None)
        except (TypeError, ValueError):
            pass  # no path: the function itself says so
        return self._function(path, *args, **options)


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
