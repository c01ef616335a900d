"""Brings one file to its place, and what stood there back.

A file appears by rename, complete and with its final mode; it is never wider than that for a
moment. What stood at its path before (a file, a symbolic link) is kept beside it and put back by
rename, so content, mode, owner and times return as they were.

The two hidden names beside `DIR/NAME` are `DIR/.NAME.CRC.new` and `DIR/.NAME.CRC.old`, with the
first 32 characters of NAME and the CRC-32 of all of it. Being fixed, they tell the next launcher
(and the proxy) what one that was killed has left: an `.old` is what belongs at the path.
"""

from __future__ import annotations

import binascii
import os
import stat

from ..errors import LaunchError
from ..session.spec import raw


def hidden(path: str, ending: str) -> str:
    directory, name = os.path.split(path)
    return "%s/.%s.%08x.%s" % (directory, name[:32], binascii.crc32(raw(name)), ending)


def recover(path: str) -> None:
    """Put back what a launcher that was killed had kept of `path`."""
    old = hidden(path, "old")
    try:
        status = os.lstat(old)
    except OSError:
        return
    if status.st_uid not in (0, os.geteuid()):
        raise LaunchError("cannot write %s: %s is in the way" % (path, old))
    put_back(path)


def write_new(path: str, content: bytes, mode: int, *, lasting: bool = True) -> None:
    """Write the file under its hidden name, through no link that may lie there.

    `lasting`: on the disk before it is shown, for a place that outlives a crash of the machine.
    """
    discard_new(path)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with open(os.open(hidden(path, "new"), flags, mode & 0o600), "wb") as stream:
        try:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)  # exact: a umask may have taken bits away
            if lasting:
                os.fsync(stream.fileno())
        except BaseException:
            discard_new(path)
            raise


def show_new(path: str, *, lasting: bool = True) -> None:
    os.rename(hidden(path, "new"), path)
    if lasting:
        _sync_directory(path)


def discard_new(path: str) -> None:
    _unlink(hidden(path, "new"))


def keep(path: str) -> bool:
    """Keep what is at `path`, which stays in its place too; False when there is nothing."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
        raise LaunchError("cannot write %s: it is not a regular file" % path)
    old = hidden(path, "old")
    try:
        os.link(path, old, follow_symlinks=False)
    except OSError:
        os.rename(path, old)  # a file system without hard links
    return True


def put_back(path: str) -> None:
    old = hidden(path, "old")
    os.rename(old, path)
    # Where both still are one file (the new one never came), rename does nothing.
    _unlink(old)
    _sync_directory(path)


def remove(path: str, *, lasting: bool = True) -> None:
    if _unlink(path) and lasting:
        _sync_directory(path)


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _sync_directory(path: str) -> None:
    """Make a rename in the directory of `path` last; best effort, some file systems refuse."""
    try:
        fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return
    try:
        os.fsync(fd)
    except OSError:
        pass
    finally:
        os.close(fd)
