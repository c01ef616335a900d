"""Who is asking: what the frames of this moment tell about imports and callers."""

from __future__ import annotations

import _thread
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any

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


# Who was being imported when a thread was started: by the object whose method it runs, or else the
# code that it runs. The first item keeps the object, and so its number.
_threads: dict[int, tuple[object, Modules]] = {}


def note_thread(function: object) -> None:
    """A thread is about to be started."""
    kept = getattr(function, "__self__", None)
    if kept is None:
        kept = getattr(function, "__code__", None)
    stack = importing()
    if kept is not None and stack:
        _threads[id(kept)] = kept, stack


class Threads:
    """Notes who starts threads, where the interpreter tells nobody: it does since 3.12."""

    def __init__(self) -> None:
        self._starts: list[tuple[Any, str, Any]] = []

    def install(self) -> None:
        if sys.version_info >= (3, 12):
            return
        start = _thread.start_new_thread

        def start_new_thread(function: Any, *args: Any) -> int:
            note_thread(function)
            return start(function, *args)

        for module in (_thread, sys.modules.get("threading")):
            for name in ("start_new_thread", "start_new", "_start_new_thread"):
                if getattr(module, name, None) is start:
                    self._starts.append((module, name, start))
                    setattr(module, name, start_new_thread)
            self._wrapper = start_new_thread

    def remove(self) -> None:
        """Give back the function, to `threading` too, which may have been imported meanwhile."""
        threading = sys.modules.get("threading")
        name = "_start_new_thread"
        if self._starts and getattr(threading, name, None) is self._wrapper:
            setattr(threading, name, self._starts[0][2])
        for module, name, start in self._starts:
            setattr(module, name, start)
        self._starts.clear()
        _threads.clear()


def modules() -> Modules:
    """The modules being imported at this moment, innermost first.

    In a thread these are followed by those whose import has started it. When there are none, the
    module of the code that runs.
    """
    found, running = _look()
    return found or ((running,) if running else ("the interpreter's start",))


def importing() -> Modules:
    """The same, but none when nothing is being imported: of code that runs, nobody is to blame."""
    return _look()[0]


def _look() -> tuple[Modules, str | None]:
    found: list[str] = []
    running: str | None = None
    bottom: FrameType | None = None
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001
    while frame is not None:
        name = frame.f_globals.get("__name__")
        if isinstance(name, str) and not _is_ours(name):
            if running is None and not _is_plumbing(name):
                running = name
            if frame.f_code.co_name == "<module>" and name not in found and name != "__main__":
                found.append(name)
        bottom, frame = frame, frame.f_back
    found += [name for name in _starters(bottom) if name not in found]
    return tuple(found), running


def _starters(bottom: FrameType | None) -> Modules:
    """Who has started the thread whose first frame is `bottom`."""
    if bottom is None or not _threads:
        return ()
    code = bottom.f_code
    first = bottom.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    for kept in (first, code):
        _, stack = _threads.get(id(kept), (None, ()))
        if stack:
            return stack
    return ()


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
