"""Takes a plan's files away when the launcher that wrote them is gone."""

from __future__ import annotations

import binascii
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from proxy.lifecycle.plan import Plan


def undo(plan: Plan) -> None:
    """Put back what stood at the paths of `plan`'s files, or nothing; best effort.

    A launcher keeps it beside each file, under the name that `proxy.launcher.place` tells.
    """
    for file in plan.files:
        path = Path(plan.cwd or ".", file.path).absolute()
        mark = binascii.crc32(path.name.encode("utf-8", "surrogateescape"))
        old, new = (path.with_name(f".{path.name[:32]}.{mark:08x}.{end}") for end in ("old", "new"))
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if os.path.lexists(old):
                old.rename(path)
                old.unlink(missing_ok=True)  # rename does nothing where both are one file
            else:
                path.unlink()
    with contextlib.suppress(OSError):
        Path(plan.run_dir).rmdir()  # only when nothing else is in it
