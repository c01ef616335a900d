"""Writes the plan's files, all or none, and undoes them exactly.

How one file comes to its place and goes again is told in `place`, what is done on the way in
`steps`, and what happens to the run directory in `room`.
"""

from __future__ import annotations

import json
import os
import stat

from ..errors import LaunchError, cause
from . import place
from .room import Room
from .steps import SEARCH, Made, Shown, steps_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..session.spec import FileSpec
    from .steps import Step

BASE_LIMIT = 16 * 1024 * 1024  # bytes read of a base file


def _to_stderr(text: str) -> None:
    try:
        os.write(2, ("launcher: %s\n" % text).encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody listens any more


class Files:
    """The files of one start. `write` them all, `undo` them all.

    `say(text)` is told what somebody has left that can be moved aside only.
    """

    def __init__(self, say: Callable[[str], None] = _to_stderr) -> None:
        self._say = say
        self._steps: list[Step | Room] = []
        self._room: Room | None = None
        self._shown: set[str] = set()

    @property
    def written(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._steps)

    def write(self, files: list[FileSpec], run_dir: str | None, cwd: str | None) -> None:
        """Make `run_dir` and write `files`; relative paths start at `cwd`.

        A file in `run_dir` replaces whatever stands there for good; elsewhere it is put back.
        Raises `LaunchError` with everything undone.
        """
        try:
            if run_dir is not None:
                self.recover(run_dir, cwd)
                self._make_room(_absolute(run_dir, cwd))
            for file in files:
                path = _absolute(file.path, cwd)
                try:
                    self._write(path, file, cwd)
                except (OSError, LaunchError) as error:
                    raise _refusal("cannot write %s" % path, error) from None
        except LaunchError as error:
            self.undo_after(error)
            raise

    def recover(self, run_dir: str, cwd: str | None = None) -> None:
        """Undo what a launcher that is dead has done with `run_dir`. Raises `LaunchError`."""
        left = None if self._steps else Room.left(_absolute(run_dir, cwd))
        if left is None:
            return
        room, noted = left
        self._steps = [room, *steps_from(noted)]
        self.undo()

    def undo(self) -> None:
        """Take everything back, the latest first.

        Raises `LaunchError` naming what could not be undone; that much is tried again next time.
        """
        kept: list[Step | Room] = []
        faults: list[str] = []
        while self._steps:
            step = self._steps.pop()
            try:
                step.undo(self._teller(step.path))
            except OSError as error:
                kept.insert(0, step)
                faults.append("cannot undo %s: %s" % (step.path, cause(error)))
            else:
                step.close()
        self._steps = kept
        self._room = next((step for step in kept if isinstance(step, Room)), None)
        self._shown = {step.path for step in kept if isinstance(step, Shown)}
        if faults:
            raise LaunchError("; ".join(faults))

    def undo_after(self, error: LaunchError) -> None:
        """Undo because of `error`; if that fails too, raise one `LaunchError` that tells both."""
        try:
            self.undo()
        except LaunchError as second:
            raise LaunchError("%s; %s" % (error, second)) from None

    def _make_room(self, path: str) -> None:
        if self._room is not None:
            return  # what could not be undone was in it
        try:
            self._make_parents(os.path.dirname(path))
            self._room = Room.make(path)
            self._steps.append(self._room)
            self._note()
        except OSError as error:
            text = "cannot make %s: %s; upstream.run_dir names another place"
            raise LaunchError(text % (path, cause(error))) from None

    def _write(self, path: str, file: FileSpec, cwd: str | None) -> None:
        if self._room is not None and path.startswith(self._room.path + os.sep):
            # The proxy's own room: what stands there is left over, perhaps another user's; and what
            # is written there is for this one process, so nobody waits for the disk.
            content = _content(file, cwd)
            directory, name = self._room.enter(path, self._noted())
            try:
                place.remove(directory, name, lasting=False)
                place.write_new(directory, name, content, file.mode, lasting=False)
                place.show_new(directory, name, lasting=False)
            finally:
                os.close(directory)
            return
        self._make_parents(os.path.dirname(path))
        directory = os.open(os.path.dirname(path), SEARCH)
        name = os.path.basename(path)
        try:
            again = path in self._shown  # what was there first is kept already
            if not again:
                place.recover(directory, name)  # before it is read as a base file
            content = _content(file, cwd)
            stood = place.exists(directory, name)
            if not again:
                self._add(Shown(path, os.dup(directory), stood=stood))
                self._shown.add(path)
            place.write_new(directory, name, content, file.mode)
            if stood and not again:
                place.keep(directory, name)
            place.show_new(directory, name)
        except BaseException:
            place.discard_new(directory, name)
            raise
        finally:
            os.close(directory)

    def _make_parents(self, path: str) -> None:
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            step = Made(directory, os.open(os.path.dirname(directory), SEARCH), stood=False)
            self._add(step)
            os.mkdir(directory, 0o700)

    def _add(self, step: Step) -> None:
        self._steps.append(step)
        self._note()

    def _note(self) -> None:
        if self._room is not None:
            self._room.note(self._noted())

    def _noted(self) -> list[dict[str, object]]:
        return [step.to_json() for step in self._steps if not isinstance(step, Room)]

    def _teller(self, path: str) -> Callable[[str | None], None]:
        def tell(text: str | None) -> None:
            if text is not None:
                self._say("%s: %s" % (path, text))

        return tell


def _refusal(what: str, error: OSError | LaunchError) -> LaunchError:
    text = cause(error) if isinstance(error, OSError) else str(error)
    return LaunchError(text if text.startswith("cannot ") else "%s: %s" % (what, text))


def _absolute(path: str, cwd: str | None) -> str:
    try:
        return os.path.abspath(os.path.join(cwd or "", path))
    except OSError as error:  # only a relative path needs the directory we are in
        raise LaunchError("cannot find the working directory: %s" % cause(error)) from None


def _content(file: FileSpec, cwd: str | None) -> bytes:
    """The bytes to write: with a base file, its top-level keys lie under the delivered ones."""
    if file.base_file is None:
        return file.content
    base_path = _absolute(file.base_file, cwd)
    merged = _base(base_path)
    delivered = _object(file.content)
    if delivered is None:
        raise LaunchError(
            "cannot merge %s with %s: the delivered content is not a JSON object"
            % (file.path, base_path)
        )
    merged.update(delivered)
    return json.dumps(merged, indent=2).encode() + b"\n"


def _base(path: str) -> dict[str, object]:
    """The object in the JSON file `path`; a missing file counts as an empty object."""
    try:
        # Not blocking: a FIFO in this place must not stop the launcher.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise LaunchError("cannot read base file %s: %s" % (path, cause(error))) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise LaunchError("cannot read base file %s: it is not a regular file" % path)
    with open(fd, "rb") as stream:
        content = stream.read(BASE_LIMIT + 1)
    if len(content) > BASE_LIMIT:
        raise LaunchError("cannot read base file %s: over %d bytes" % (path, BASE_LIMIT))
    value = _object(content)
    if value is None:
        raise LaunchError("cannot read base file %s: it is not a JSON object" % path)
    return value


def _object(content: bytes) -> dict[str, object] | None:
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
