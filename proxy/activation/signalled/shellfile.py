"""A plan's environment as a file for a POSIX shell to read with `.` before it starts the upstream.

It does to the shell's own environment what the launcher would do, in the same order:
inherited - base_unset + base_env - unset + env.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final

from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from proxy.lifecycle.plan import Plan

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What a shell's `case` and `fnmatch` understand alike.
_PATTERN: Final = re.compile(r"[A-Za-z0-9_*?\[\]!-]+")


def shell_file(plan: Plan) -> bytes:
    """The file's content. Raises `ActivationError` for a name that no shell can export."""
    lines = [
        *_unset(plan.base_unset),
        *_export(plan.base_env),
        *_unset(plan.unset),
        *_export(plan.env),
    ]
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape")


def _unset(patterns: Iterable[str]) -> Iterator[str]:
    names, wild = [], []
    for pattern in patterns:
        if _NAME.fullmatch(pattern):
            names.append(pattern)
        elif _PATTERN.fullmatch(pattern):
            wild.append(pattern)
        else:
            raise ActivationError(f"cannot unset {pattern} in a shell")
    if names:
        yield "unset " + " ".join(names)
    if wild:
        names_there = "env | sed -n 's/^\\([A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'"
        yield f"for name in $({names_there}); do"
        yield f'    case $name in {"|".join(wild)}) unset "$name" ;; esac'
        yield "done"
        yield "unset name"


def _export(env: Mapping[str, str]) -> Iterator[str]:
    for name, value in env.items():
        if not _NAME.fullmatch(name):
            raise ActivationError(f"cannot pass the variable {name} on: no shell can export it")
        yield f"export {name}={shlex.quote(value)}"
