"""Who is asking: what the frames of this moment tell about imports and callers."""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    Modules = tuple[str, ...]

_OWN = __name__.rsplit(".", 2)[0]  # the launcher, not this room of it
# Code that acts for whoever called it.
_PLUMBING = frozenset(
    [
        "os",
        "_collections_abc",
        "collections.abc",
        "importlib._bootstrap",
        "importlib._bootstrap_external",
    ]
)


def modules() -> Modules:
    """The modules being imported at this moment, innermost first.

    When none is (a thread that an import has started), the module of the code that runs.
    """
    found: list[str] = []
    running: str | None = None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and not _is_ours(name):
            if running is None and not _is_plumbing(name):
                running = name
            if frame.f_code.co_name == "<module>" and name not in found and name != "__main__":
                found.append(name)
        frame = frame.f_back
    return tuple(found) or ((running,) if running else ("the interpreter's start",))


def caller() -> FrameType | None:
    """The frame that used `os.environ`, behind the methods of the mapping."""
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and not _is_ours(name) and not _is_plumbing(name):
            return frame
        frame = frame.f_back
    return None


def in_view() -> bool:
    """Whether `os.environ.items()` or `.values()` is asking: the iteration itself was noted."""
    frame = sys._getframe(2)  # noqa: SLF001  _Environ.__getitem__
    back = frame.f_back
    return (
        back is not None
        and back.f_code.co_name == "__iter__"
        and back.f_globals.get("__name__") in ("_collections_abc", "collections.abc")
    )


def is_own(frame: FrameType) -> bool:
    """Whether it is code of the launcher's, which forks on its own account."""
    return _is_ours(str(frame.f_globals.get("__name__")))


def _is_ours(name: str) -> bool:
    return name == _OWN or name.startswith(_OWN + ".")


def _is_plumbing(name: str) -> bool:
    return name in _PLUMBING
