"""What a start changes outside of its run directory, one step an object that can be taken back.

A step holds the directory that it is in by a descriptor, from before it is made until it is taken
back. As JSON, noted before it is made (see `room`), it tells the successor of a launcher that was
killed what to take back.
"""

from __future__ import annotations

import os

from . import place, tree

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

SEARCH = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class Step:
    """`stood`: whether there was something at `path` before. `directory` is the step's to close."""

    kind = ""

    def __init__(self, path: str, directory: int, *, stood: bool) -> None:
        self.path = path
        self.stood = stood
        self._name = os.path.basename(path)
        self._directory = directory

    def to_json(self) -> dict[str, Any]:
        where = tree.identity(os.fstat(self._directory))
        return {"kind": self.kind, "path": self.path, "in": where, "stood": self.stood}

    def close(self) -> None:
        os.close(self._directory)

    def undo(self, say: Callable[[str | None], None]) -> None:
        """Raises `OSError`; can be tried again then. `say` is told what was moved aside."""
        raise NotImplementedError


class Shown(Step):
    """A file comes to its place."""

    kind = "file"

    def undo(self, say: Callable[[str | None], None]) -> None:
        place.discard_new(self._directory, self._name)
        if place.exists(self._directory, place.hidden(self._name, "old")):
            say(place.put_back(self._directory, self._name))
        elif not self.stood:  # else it has not been touched, or was put back already
            say(place.remove(self._directory, self._name))


class Made(Step):
    """A directory on the way to a file is made."""

    kind = "directory"

    def undo(self, say: Callable[[str | None], None]) -> None:
        try:
            os.rmdir(self._name, dir_fd=self._directory)
        except NotADirectoryError:
            say(tree.clear(self._directory, self._name))  # put in its place meanwhile
        except OSError:
            pass  # not empty: the upstream keeps something there. Or it is gone.


KINDS: dict[str, type[Step]] = {kind.kind: kind for kind in (Shown, Made)}


def steps_from(noted: Any) -> list[Step]:
    """The steps that were noted, without those whose directory is gone or another one."""
    return [step for data in noted for step in _step(data)] if isinstance(noted, list) else []


def _step(data: Any) -> list[Step]:
    try:
        kind, path, where, stood = (data[key] for key in ("kind", "path", "in", "stood"))
        directory = os.open(os.path.dirname(path), SEARCH)
    except (OSError, KeyError, TypeError):
        return []
    if list(tree.identity(os.fstat(directory))) != where or kind not in KINDS:
        os.close(directory)
        return []
    return [KINDS[kind](path, directory, stood=bool(stood))]
