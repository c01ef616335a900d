"""Brings one file to its place, and what stood there back.

A place is a directory, as a descriptor, and a name in it: nothing that happens to the path
meanwhile leads elsewhere. A file appears by rename, complete and with its final mode; it is never
wider than that for a moment. What stood at its place before (a file, a symbolic link) is kept
beside it and put back by rename, so content, mode, owner and times return as they were.

The two hidden names beside `DIR/NAME` are `DIR/.NAME.CRC.new` and `DIR/.NAME.CRC.old`, with the
first 32 characters of NAME and the CRC-32 of all of it. Being fixed, they tell the next launcher
what one that was killed has left: an `.old` is what belongs at the path.
"""

from __future__ import annotations

import binascii
import os
import stat

from ..errors import LaunchError
from ..session.spec import raw
from . import mounted, tree


def hidden(name: str, ending: str) -> str:
    return ".%s.%08x.%s" % (name[:32], binascii.crc32(raw(name)), ending)


def exists(directory: int, name: str) -> bool:
    try:
        os.lstat(name, dir_fd=directory)
    except FileNotFoundError:
        return False
    return True


def recover(directory: int, name: str) -> None:
    """Put back what a launcher that was killed had kept. Raises `LaunchError` if it is foreign."""
    old = hidden(name, "old")
    try:
        status = os.lstat(old, dir_fd=directory)
    except OSError:
        return
    if status.st_uid not in (0, os.geteuid()):
        raise LaunchError("%s is in the way" % old)
    put_back(directory, name)


def write_new(
    directory: int, name: str, content: bytes, mode: int, *, lasting: bool = True
) -> None:
    """Write the file under its hidden name, through no link that may lie there.

    `lasting`: on the disk before it is shown, for a place that outlives a crash of the machine.
    """
    discard_new(directory, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    fd = os.open(hidden(name, "new"), flags, mode & 0o600, dir_fd=directory)
    with open(fd, "wb") as stream:
        try:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)  # exact: a umask may have taken bits away
            if lasting:
                os.fsync(stream.fileno())
        except BaseException:
            discard_new(directory, name)
            raise


def show_new(directory: int, name: str, *, lasting: bool = True) -> None:
    _move(directory, hidden(name, "new"), name)
    if lasting:
        _sync(directory)


def discard_new(directory: int, name: str) -> None:
    tree.remove(directory, hidden(name, "new"))


def keep(directory: int, name: str) -> None:
    """Keep what is at the place, which stays there too."""
    status = os.lstat(name, dir_fd=directory)
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise LaunchError("it is not a regular file")
    old = hidden(name, "old")
    try:
        os.link(name, old, src_dir_fd=directory, dst_dir_fd=directory, follow_symlinks=False)
    except OSError:
        try:
            # A file system without hard links.
            os.rename(name, old, src_dir_fd=directory, dst_dir_fd=directory)
        except OSError as error:
            if not mounted.is_cause(error):
                raise
            copy = hidden(name, "copy")
            tree.remove(directory, copy)
            mounted.copy(directory, name, copy)
            os.rename(copy, old, src_dir_fd=directory, dst_dir_fd=directory)


def put_back(directory: int, name: str) -> str | None:
    """Returns what has to be said of what was in the way."""
    old = hidden(name, "old")
    said = None
    if _is_directory(directory, name):
        said = tree.clear(directory, name)
    _move(directory, old, name)
    # Where both still are one file (the new one never came), rename does nothing.
    tree.remove(directory, old)
    _sync(directory)
    return said


def remove(directory: int, name: str, *, lasting: bool = True) -> str | None:
    """Remove what is at the place, whatever it has become; returns what has to be said."""
    if not exists(directory, name):
        return None
    said = tree.clear(directory, name)
    if lasting:
        _sync(directory)
    return said


def _move(directory: int, name: str, to: str) -> None:
    try:
        os.rename(name, to, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        if not mounted.is_cause(error):
            raise
        mounted.pour(directory, name, to)


def _is_directory(directory: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.lstat(name, dir_fd=directory).st_mode)
    except FileNotFoundError:
        return False


def _sync(directory: int) -> None:
    """Make a rename in the directory last; best effort, some file systems refuse."""
    try:
        os.fsync(directory)
    except OSError:
        pass
