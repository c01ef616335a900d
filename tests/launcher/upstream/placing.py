"""The files of an activation, written and looked at, for tests."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from proxy.launcher.errors import LaunchError
from proxy.launcher.session.spec import FileSpec
from proxy.launcher.upstream.files import Files

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t-content"


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
