"""Files that cannot be renamed: a place that is a mount point, of one file.

So is one file of a volume (`subPath`), or of a bind mount. What stands there is copied beside it
and not moved, and content is written into it: for a moment it is neither the old nor the new.
"""

from __future__ import annotations

import errno
import os
import stat

from ..errors import cause

_BUSY = (errno.EBUSY, errno.EXDEV)
_PIECE = 1024 * 1024  # bytes


def is_cause(error: OSError) -> bool:
    """Whether a rename has failed for this."""
    return error.errno in _BUSY


def copy(directory: int, name: str, to: str) -> None:
    """Make `to` what `name` is: content, mode, times, and the owner as far as we may.

    Only where `pour` can follow.
    """
    os.close(_writable(directory, name))
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    source, target = _opened(directory, name, os.O_RDONLY), -1
    try:
        target = os.open(to, flags, 0o600, dir_fd=directory)
        _fill(target, source)
    finally:
        _close(source, target)


def pour(directory: int, source: str, name: str) -> None:
    """Make `name` what `source` is, in place, and remove `source`."""
    content, target = _opened(directory, source, os.O_RDONLY), -1
    try:
        target = _writable(directory, name)
        # Before there is anything in it that not everybody may read.
        os.ftruncate(target, 0)
        os.fchmod(target, stat.S_IMODE(os.fstat(content).st_mode))
        _fill(target, content)
    finally:
        _close(content, target)
    os.unlink(source, dir_fd=directory)


def _writable(directory: int, name: str) -> int:
    try:
        return _opened(directory, name, os.O_WRONLY)
    except OSError as error:
        text = "it is a mount point, and cannot be written in place (%s); mount its directory"
        raise OSError(error.errno, text % cause(error)) from None


def _fill(target: int, source: int) -> None:
    while True:
        data = os.read(source, _PIECE)
        if not data:
            break
        while data:
            data = data[os.write(target, data) :]
    _make_alike(source, target)
    os.fsync(target)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def _opened(directory: int, name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory)


def _make_alike(one: int, other: int) -> None:
    status, present = os.fstat(one), os.fstat(other)
    if (status.st_uid, status.st_gid) != (present.st_uid, present.st_gid):
        try:
            os.fchown(other, status.st_uid, status.st_gid)
        except PermissionError:
            pass  # whose it is then, it was before
    os.fchmod(other, stat.S_IMODE(status.st_mode))
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
