"""The files of an activation, written and looked at, for tests."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import traceback
import warnings
from typing import TYPE_CHECKING

import pytest

from proxy.launcher.errors import LaunchError
from proxy.launcher.session.spec import FileSpec
from proxy.launcher.upstream.files import Files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

SECRET = "s3cr3t-content"
NOBODY = 65534
_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x10  # ioctl_iflags(2)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes | str | None]]:
    """Every entry below `directory`: mode, modification time, content or target."""
    found: dict[str, tuple[int, int, bytes | str | None]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        # Directories get another time by any entry that comes or goes.
        when = 0 if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(directory))] = (stat.S_IMODE(status.st_mode), when, content)
    return found


def spec(
    path: Path | str, content: bytes = b"x", mode: int = 0o600, base: Path | None = None
) -> FileSpec:
    return FileSpec(str(path), content, mode, str(base) if base is not None else None)


def write(*files: FileSpec, run_dir: Path | None = None, cwd: Path | None = None) -> Files:
    written = Files()
    written.write(list(files), str(run_dir) if run_dir else None, str(cwd) if cwd else None)
    return written


def refused(*files: FileSpec, run_dir: Path | None = None) -> str:
    with pytest.raises(LaunchError) as caught:
        write(*files, run_dir=run_dir)
    return str(caught.value)


@contextlib.contextmanager
def immutable(path: Path) -> Iterator[None]:
    """`path` cannot be removed, renamed or changed, not even by root; who may not is spared."""
    fd = os.open(path, os.O_RDONLY)
    try:
        flags = struct.unpack("l", fcntl.ioctl(fd, _GET_FLAGS, bytes(8)))[0]
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags | _IMMUTABLE))
    except OSError as error:
        os.close(fd)
        pytest.skip(f"no file can be made immutable here: {error}")
    try:
        yield
    finally:
        fcntl.ioctl(fd, _SET_FLAGS, struct.pack("l", flags))
        os.close(fd)


def unprivileged(directory: Path, action: Callable[[], None]) -> None:
    """Do `action` as a user to whom permissions apply, who owns `directory`."""
    if os.geteuid() != 0:
        action()
        return
    for path in (directory, *directory.rglob("*")):
        os.chown(path, NOBODY, NOBODY)

    def as_nobody() -> None:
        os.chdir(directory)  # what is above it may be closed to others
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        action()

    assert in_fork(as_nobody) == 0


def in_fork(action: Callable[[], None]) -> int:
    """The exit code of a fork that does `action`: 0 when that returns, 1 when it raises."""
    with warnings.catch_warnings():
        # The runner's threads are not missed in a process that does this and ends.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            action()
            os._exit(0)
        except BaseException:  # noqa: BLE001  this process must not come back
            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
