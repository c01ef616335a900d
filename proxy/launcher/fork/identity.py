"""What a preload plan is valid for: this interpreter, this platform, these packages."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SUFFIXES = (".dist-info", ".egg-info")


def identity() -> dict[str, Any]:
    """Of the running interpreter, with its `sys.path`: nothing is imported to find it."""
    return {
        "implementation": sys.implementation.name,
        "version": ".".join(str(part) for part in sys.version_info[:3]),
        "cache_tag": sys.implementation.cache_tag,
        "executable": os.path.realpath(sys.executable),
        "platform": "%s-%s" % (sys.platform, os.uname().machine),
        "packages": _packages(),
    }


def _packages() -> dict[str, str]:
    """Installed distributions: `importlib.metadata` reads the same directory names."""
    found: dict[str, str] = {}
    for directory in sys.path:
        try:
            names = os.listdir(directory or ".")
        except OSError:
            continue
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix in _SUFFIXES:
                package, _, version = stem.partition("-")
                found.setdefault(package, version)
    return dict(sorted(found.items()))


def difference(recorded: dict[str, Any], present: dict[str, Any]) -> str | None:
    """The first thing in which two identities differ, in words; None when they agree."""
    for key in ("implementation", "version", "cache_tag", "executable", "platform"):
        if recorded.get(key) != present[key]:
            return "it was recorded with %s %s, this is %s" % (key, recorded.get(key), present[key])
    before, after = recorded.get("packages", {}), present["packages"]
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            return "it was recorded with %s %s, this is %s" % (
                name,
                before.get(name, "absent"),
                after.get(name, "absent"),
            )
    return None
