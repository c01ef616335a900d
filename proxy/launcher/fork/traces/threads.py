"""Who has started the threads that stay: they would be missing in a fork."""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time

from ...audit.stack import modules
from .wrapping import Wrapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_LOOK = 0.05  # seconds between looks
_STARTING = (
    (_thread, "start_new_thread"),
    (_thread, "start_joinable_thread"),
    (threading, "_start_new_thread"),  # its own names for them
    (threading, "_start_joinable_thread"),
)


class Threads:
    """Counts from the moment it was made, in a process that has one thread."""

    def __init__(self) -> None:
        self._starters: dict[int, str] = {}
        self._wrapping = Wrapping()
        self._count = _count()
        self._suspect = "a module"  # of native threads

    def install(self) -> None:
        for owner, name in _STARTING:
            self._wrapping.put(owner, name, self._start)

    def remove(self) -> None:
        self._wrapping.remove()

    def look(self, module: str) -> None:
        """`module` has just been imported."""
        count = _count()
        if count > self._count:
            self._suspect = module
        self._count = count

    def wait(self, limit: float) -> dict[str, str]:
        """Wait until this is the only one, at most `limit` seconds; module -> what it has left."""
        deadline = time.monotonic() + limit
        while _count() > 1 and time.monotonic() < deadline:
            time.sleep(_LOOK)
        if _count() == 1:
            return {}
        alive = sys._current_frames()  # noqa: SLF001
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        found = {
            module: "left thread %s running" % names.get(ident, "without a name")
            for ident, module in self._starters.items()
            if ident in alive
        }
        return found or {self._suspect: "left a native thread running"}

    def _start(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        started = function(*args, **options)
        self._starters[getattr(started, "ident", started)] = modules()[0]
        return started


def _count() -> int:
    return len(os.listdir("/proc/self/task"))
