"""Why a start cannot be a fork of what has been preloaded."""

from __future__ import annotations

import os

from ..audit.policy import always_cold

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..audit.audit import Audit
    from ..audit.native import Native

NAMED = 5  # names given in a reason for a cold start


def refusal(
    orders: dict[str, Any], audit: Audit, native: Native | None, watched: list[str]
) -> str | None:
    """Why a start that delivers these names and files would differ from a cold one.

    A file must have been `watched`, or lie in `run_dir`, whose name the modules cannot know.
    """
    reasons = [
        *filter(None, (_of_name(name, audit, native) for name in sorted(orders["delivered"]))),
        *(why for path in orders["files"] for why in _of_file(path, orders, audit, watched)),
    ]
    if not reasons:
        return None
    more = len(reasons) - NAMED
    return "; ".join(reasons[:NAMED]) + ("; and %d more" % more if more > 0 else "")


def _of_name(name: str, audit: Audit, native: Native | None) -> str | None:
    if always_cold(name):
        return "%s acts before Python code runs" % name
    readers = audit.readers(name)
    if readers is not None:
        return "%s was read while preloading %s" % (name, _stack(readers))
    library = native.reader(name) if native else None
    return "%s may have been read by %s" % (name, library) if library else None


def _of_file(path: str, orders: dict[str, Any], audit: Audit, watched: list[str]) -> list[str]:
    run_dir = orders["run_dir"]
    private = run_dir is not None and path.startswith(os.path.join(run_dir, ""))
    known = not private or path in watched
    opened = audit.files.readers(path, known=known)
    if opened is not None:
        return ["%s was looked at while preloading %s" % (path, _stack(opened))]
    if known and path not in watched:
        return ["%s was not watched while preloading" % path]
    return []


def _stack(modules: tuple[str, ...]) -> str:
    if len(modules) == 1:
        return modules[0]
    return "%s (imported by %s)" % (modules[0], ", ".join(modules[1:3]))
