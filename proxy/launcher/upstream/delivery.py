"""What a start brings that was not there while modules were preloaded."""

from __future__ import annotations

import os
import resource

from ..errors import LaunchError
from ..session.spec import Spec, raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..session.spec import Base

# What execve(2) takes, as the kernel has it (fs/exec.c): bytes of one argument or variable with its
# NUL, of all of them with a pointer for each, and of the program's own name beside them.
STRING_LIMIT = 131072
_WHOLE = 6 * 1024 * 1024
_POINTER = 8
_PROGRAM = 4096


def base_environment(base: Base) -> dict[bytes, bytes]:
    """The upstream's environment before anything is delivered."""
    return _environment(base, [])


def delivered(spec: Spec) -> list[str]:
    """Every name that the start sets, also where that changes nothing, or takes away."""
    kept = _environment(spec, spec.unset)
    removed = [name for name in base_environment(spec) if name not in kept]
    return sorted({*spec.env, *(name.decode("utf-8", "surrogateescape") for name in removed)})


def ensure_fits(argv: list[str], env: dict[bytes, bytes]) -> None:
    """Refuse what execve(2) refuses (E2BIG), which no fork passes through. Raises `LaunchError`.

    A fork would start with such an environment, and could then start no program itself.
    """
    given = [(raw(item), "an argument") for item in argv]
    for name, value in env.items():
        said = "the variable %s" % name.decode("utf-8", "replace")
        given.append((b"%s=%s" % (name, value), said))
    for text, what in given:
        if len(text) >= STRING_LIMIT:
            raise LaunchError("cannot start %s: %s is too long" % (argv[0], what))
    size = sum(len(text) + 1 + _POINTER for text, _ in given)
    if size > _whole_limit():
        raise LaunchError(
            "cannot start %s: its arguments and environment take %d bytes" % (argv[0], size)
        )


def _whole_limit() -> int:
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    limit = _WHOLE if stack == resource.RLIM_INFINITY else min(_WHOLE, stack // 4)
    return max(limit, STRING_LIMIT) - _PROGRAM


def _environment(base: Base, unset: list[str]) -> dict[bytes, bytes]:
    bare = Spec.__new__(Spec)
    bare.base_env, bare.base_unset, bare.unset, bare.env = base.base_env, base.base_unset, unset, {}
    return bare.environment(os.environb)
