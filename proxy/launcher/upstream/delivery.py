"""What a start brings that was not there while modules were preloaded."""

from __future__ import annotations

import os

from ..session.spec import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..session.spec import Base


def base_environment(base: Base) -> dict[bytes, bytes]:
    """The upstream's environment before anything is delivered."""
    return _environment(base, [])


def delivered(spec: Spec) -> list[str]:
    """Every name that the start sets or removes, also where that changes nothing."""
    kept = _environment(spec, spec.unset)
    removed = [name for name in base_environment(spec) if name not in kept]
    return sorted({*spec.env, *(name.decode("utf-8", "surrogateescape") for name in removed)})


def _environment(base: Base, unset: list[str]) -> dict[bytes, bytes]:
    bare = Spec.__new__(Spec)
    bare.base_env, bare.base_unset, bare.unset, bare.env = base.base_env, base.base_unset, unset, {}
    return bare.environment(os.environb)
