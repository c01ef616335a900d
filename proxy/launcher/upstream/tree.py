"""Removes what somebody else has built, by descriptors alone and however deep it is.

A path is looked up anew at every step, and a directory on it may be a symbolic link by then; a
descriptor stays what it was. Deep trees are taken apart from the top: a directory inside is moved
up beside its parent, so neither recursion nor a descriptor for each level is needed, and no path
grows too long.
"""

from __future__ import annotations

import os
import stat
from collections import deque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Collection

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ASIDE = ".left"


def identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def is_at(directory: int, name: str, wanted: tuple[int, int]) -> bool:
    """Whether the entry is this very file or directory, not another one in its place."""
    try:
        return identity(os.lstat(name, dir_fd=directory)) == wanted
    except OSError:
        return False


def remove(directory: int, name: str) -> None:
    """Remove the entry with all that is in it; one that is not there is no error.

    Raises the first `OSError` when something has to stay.
    """
    if _unlinked(directory, name):
        return
    try:
        fd = _opened(directory, name)
    except FileNotFoundError:
        return
    try:
        empty(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)


def empty(directory: int, keep: Collection[str] = ()) -> None:
    """Remove every entry but those in `keep`. Raises the first `OSError`, after all that it can."""
    fault: OSError | None = None
    device = os.fstat(directory).st_dev
    moved = _Names()
    names = deque(name for name in os.listdir(directory) if name not in keep)
    while names:
        name = names.popleft()
        try:
            if not _unlinked(directory, name):
                _dissolve(directory, name, device, moved, names)
        except OSError as error:
            fault = fault or error
    if fault is not None:
        raise fault


def clear(directory: int, name: str) -> str | None:
    """`remove`, or move aside what cannot be removed; returns what has to be said then.

    Raises `OSError` when it can be neither.
    """
    if name.startswith(".") and name.endswith(_ASIDE):
        return None  # it was said
    try:
        remove(directory, name)
    except OSError as error:
        aside = ".%s.%s%s" % (name[:32], os.urandom(4).hex(), _ASIDE)
        os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
        return "%s cannot be removed (%s) and is %s now" % (name, error.strerror, aside)
    return None


class _Names:
    """Names that no entry has."""

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._count = 0

    def next(self) -> str:
        self._count += 1
        return ".%s.%d" % (self._prefix, self._count)


def _unlinked(directory: int, name: str) -> bool:
    """Whether it is gone; False for a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except IsADirectoryError:
        return False
    return True


def _dissolve(directory: int, name: str, device: int, moved: _Names, up: deque[str]) -> None:
    """Remove a directory whose own directories move up before; their names are added to `up`."""
    fd = _opened(directory, name)
    try:
        if os.fstat(fd).st_dev == device:  # else rmdir says that it is busy
            for inner in os.listdir(fd):
                if not _unlinked(fd, inner):
                    os.close(_opened(fd, inner))  # made writable, as it must be to be moved
                    new = moved.next()
                    os.rename(inner, new, src_dir_fd=fd, dst_dir_fd=directory)
                    up.append(new)
        os.rmdir(name, dir_fd=directory)
    finally:
        os.close(fd)


def _opened(directory: int, name: str) -> int:
    """The directory, its permissions mended where they are ours to mend."""
    handle = os.open(name, _HANDLE, dir_fd=directory)
    try:
        if stat.S_IMODE(os.fstat(handle).st_mode) & 0o700 != 0o700:
            try:
                # fchmod(2) takes no such descriptor; this name for it follows no link.
                os.chmod("/proc/self/fd/%d" % handle, 0o700)
            except OSError:
                pass  # another user's: whether it can be read shows next
        return os.open(".", DIRECTORY, dir_fd=handle)
    finally:
        os.close(handle)
