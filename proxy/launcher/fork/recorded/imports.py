"""Who asks for which module while an upstream runs that is recorded, and how long each one takes.

Heard are the statement and `importlib.import_module`, whether a module is there already or not: who
asks for it needs it, even where another has had it loaded. On whose behalf is told by the innermost
module that is being imported; what is asked for when nothing is, nobody needs for being imported.
"""

from __future__ import annotations

import builtins
import importlib
import sys
import threading
import time

from ..traces.wrapping import Wrapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable, Iterable


class Imports:
    """`needed`: module -> what its import asks for. `seconds`: module -> those of its own code."""

    def __init__(self) -> None:
        self.needed: dict[str, dict[str, None]] = {}
        self.seconds: dict[str, float] = {}
        self._nested = threading.local()  # seconds of the imports within the present one
        self._wrapping = Wrapping()

    def install(self) -> None:
        self._wrapping.put(builtins, "__import__", self._statement)
        self._wrapping.put(importlib, "import_module", self._function)

    def _statement(  # noqa: PLR0917  as it is called
        self,
        import_: Callable[..., Any],
        name: str,
        globals: dict[str, Any] | None = None,  # noqa: A002
        locals: dict[str, Any] | None = None,  # noqa: A002
        fromlist: Iterable[str] | None = (),
        level: int = 0,
    ) -> Any:
        whole = _absolute(name, _package(globals or {}) if level else "", level)
        wanted = [whole, *("%s.%s" % (whole, item) for item in fromlist or ())]
        return self._timed(wanted, lambda: import_(name, globals, locals, fromlist, level))

    def _function(
        self, import_module: Callable[..., Any], name: str, package: str | None = None
    ) -> Any:
        level = len(name) - len(name.lstrip("."))
        whole = _absolute(name[level:], package or "", level)
        return self._timed([whole], lambda: import_module(name, package))

    def _timed(self, wanted: list[str], load: Callable[[], Any]) -> Any:
        importer = _importer(sys._getframe(2))  # noqa: SLF001
        absent = [name for name in wanted if name not in sys.modules]
        outer = getattr(self._nested, "seconds", 0.0)
        self._nested.seconds = 0.0
        begun = time.perf_counter()
        try:
            return load()
        finally:
            taken = time.perf_counter() - begun
            loaded = next((name for name in absent if name in sys.modules), None)
            if loaded is not None:
                own = taken - self._nested.seconds
                self.seconds[loaded] = self.seconds.get(loaded, 0.0) + own
                self._nested.seconds = taken
            self._nested.seconds += outer
            if importer is not None:
                needed = self.needed.setdefault(importer, {})
                needed.update((name, None) for name in wanted if name in sys.modules)


def _importer(frame: FrameType | None) -> str | None:
    """The module that is being imported in `frame` or around it, the program itself left out."""
    while frame is not None:
        if frame.f_code.co_name == "<module>":
            name = frame.f_globals.get("__name__")
            return name if isinstance(name, str) and name != "__main__" else None
        frame = frame.f_back
    return None


def _package(space: dict[str, Any]) -> str:
    """As `importlib._bootstrap._calc___package__`."""
    package = space.get("__package__")
    if not isinstance(package, str):
        package = str(space.get("__name__"))
        if "__path__" not in space:
            package = package.rpartition(".")[0]
    return package


def _absolute(name: str, package: str, level: int) -> str:
    if level == 0:
        return name
    base = package.rsplit(".", level - 1)[0] if level > 1 else package
    return "%s.%s" % (base, name) if name else base
