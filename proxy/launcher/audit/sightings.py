"""Finds, among many paths that were seen, those that may be other names of one file.

Asking the kernel about each of more than a thousand paths takes as long as a fork. Two paths are
one file only if a symbolic link lies on one of them, or if the same name stands in what is one
directory by two names (a mount). A hard link is another matter: the file of a plan comes to its
place by rename, so what was read by another link is still there to be read.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable


class Sightings:
    """`paths` are absolute; links and directories are looked at here, once."""

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths: set[str] = set()
        self._linked: list[str] = []
        self._named: dict[str, list[str]] = {}
        self._directories: dict[tuple[int, int], list[str]] = {}
        for path in paths:
            self._paths.add(path)
            if os.path.realpath(path) != path:
                self._linked.append(path)
            self._named.setdefault(_name(path), []).append(path)
            identity = _identity(path)
            if identity:
                self._directories.setdefault(identity, []).append(path)

    def file(self, path: str) -> str | None:
        """The path by which the file at `path` was seen."""
        if path in self._paths:
            return path
        likely = self._named.get(_name(path), []) + self._linked
        return next((other for other in likely if _same(other, path)), None)

    def directory(self, path: str) -> str | None:
        """The path by which the directory at `path` was seen."""
        if path in self._paths:
            return path
        identity = _identity(path)
        known = self._directories.get(identity, []) if identity else []
        return next((other for other in known + self._linked if _same(other, path)), None)


def _name(path: str) -> str:
    return os.path.basename(path).casefold()  # some file systems ignore case


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _same(one: str, other: str) -> bool:
    identity = _identity(one)
    return identity is not None and identity == _identity(other)
