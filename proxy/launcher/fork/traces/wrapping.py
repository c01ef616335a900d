"""Functions that are watched while modules are preloaded.

A module may keep a wrapper (`from os import urandom`): once removed, it is nothing but the function
that it wraps, called without a detour through Python.
"""

from __future__ import annotations

import functools

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class Wrapping:
    def __init__(self) -> None:
        self._wrapped: list[tuple[Any, str, Any, functools.partial[Any]]] = []

    def put(self, owner: Any, name: str, instead: Callable[..., Any]) -> None:
        """Let `instead(function, …)` be called for `owner.name(…)`, where there is such a name."""
        function = getattr(owner, name, None)
        if function is None:
            return
        wrapper = functools.partial(instead, function)
        wrapper.__name__ = name  # type: ignore[attr-defined]
        self._wrapped.append((owner, name, vars(owner).get(name), wrapper))
        setattr(owner, name, wrapper)

    def remove(self) -> None:
        """Put everything back."""
        for owner, name, before, wrapper in reversed(self._wrapped):
            if before is None:  # it was not the owner's own
                delattr(owner, name)
            else:
                setattr(owner, name, before)
            wrapper.__setstate__((wrapper.args[0], (), {}, None))
        self._wrapped.clear()
