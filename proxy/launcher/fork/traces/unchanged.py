"""Whether what has been preloaded was there before the first user's code could reach it.

Code of a user's may write wherever the upstream may: into its working directory, which `python -m`
imports from first, or into its packages. What would be imported for the next user is then not what
the deployment has put there. The time of a file's last change (ctime, inode(7)) tells: writing,
renaming and linking set it, and only whoever can set the machine's clock can set it back.
"""

from __future__ import annotations

import os
import stat
import sys

from ...audit.native import mapped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Iterable


_NO_FILES = ("/proc/", "/sys/", "/dev/")  # the kernel's own words; their times say nothing


def changed_since(when: float, paths: Iterable[str]) -> str | None:
    """A file changed at `when` (seconds of the epoch) or later: of `paths`, or of what is loaded.

    A file in an archive is as old as the archive.
    """
    for path in {*paths, *files_of(sys.modules.values()), *mapped()}:
        status = None if path.startswith(_NO_FILES) else _status(path)
        if status is not None and stat.S_ISREG(status.st_mode) and status.st_ctime >= when:
            return path
    return None


def files_of(modules: Iterable[ModuleType]) -> list[str]:
    """What these were loaded from; a lazy module is not woken by the question."""
    found = []
    for module in list(modules):
        try:
            names = object.__getattribute__(module, "__dict__")
        except AttributeError:
            continue  # something else in the place of a module
        found += [names.get("__file__"), names.get("__cached__")]
    return [path for path in found if isinstance(path, str)]


def _status(path: str) -> os.stat_result | None:
    while True:
        try:
            return os.stat(path)
        except NotADirectoryError:
            path = os.path.dirname(path)
        except (OSError, ValueError):
            return None
