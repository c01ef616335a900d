"""Takes a plan's files away when the launcher that wrote them is gone."""

from __future__ import annotations

import binascii
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan


def standing(plan: Plan) -> frozenset[Path]:
    """Which of the paths of `plan`'s files are somebody else's: in the run directory none is."""
    run_dir = Path(plan.run_dir).absolute()
    paths = (_path(plan, file.path) for file in plan.files)
    return frozenset(p for p in paths if os.path.lexists(p) and run_dir not in p.parents)


def undo(plan: Plan, before: frozenset[Path]) -> None:
    """Put back what stood at the paths of `plan`'s files, or nothing; best effort.

    `before` is what was `standing` before the start. A launcher keeps it beside each file, under
    the name that `proxy.launcher.upstream.place` tells; when nothing is there, it had not come to
    replace it yet, or has put it back already.
    """
    for file in plan.files:
        path = _path(plan, file.path)
        mark = binascii.crc32(path.name.encode("utf-8", "surrogateescape"))
        old, new = (path.with_name(f".{path.name[:32]}.{mark:08x}.{end}") for end in ("old", "new"))
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if os.path.lexists(old):
                old.rename(path)
                old.unlink(missing_ok=True)  # rename does nothing where both are one file
            elif path not in before:
                path.unlink()
    with contextlib.suppress(OSError):
        Path(plan.run_dir).rmdir()  # only when nothing else is in it


def _path(plan: Plan, path: str) -> Path:
    return Path(plan.cwd or ".", path).absolute()
