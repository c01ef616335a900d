"""Writes the plan's files, all or none, and undoes them exactly.

How one file comes to its place and goes again is told in `place`. Directories made on the way are
removed again when empty; the run directory with all that is in it when it was made here.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat

from ..errors import LaunchError, cause
from . import place

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..session.spec import FileSpec

BASE_LIMIT = 16 * 1024 * 1024  # bytes read of a base file


class Files:
    """The files of one start. `write` them all, `undo` them all."""

    def __init__(self) -> None:
        self._undo: list[tuple[str, Callable[[], None]]] = []
        self._first_kept: set[str] = set()
        self._run_dir: str | None = None

    @property
    def written(self) -> bool:
        """Whether there is something to undo."""
        return bool(self._undo)

    def write(self, files: list[FileSpec], run_dir: str | None, cwd: str | None) -> None:
        """Make `run_dir` and write `files`; relative paths start at `cwd`.

        A file in `run_dir` replaces whatever stands there for good; elsewhere it is put back.
        Raises `LaunchError` with everything undone.
        """
        try:
            self._run_dir = _absolute(run_dir, cwd) if run_dir is not None else None
            if self._run_dir is not None:
                self._make_run_dir(self._run_dir)
            for file in files:
                path = _absolute(file.path, cwd)
                try:
                    if path not in self._first_kept:
                        place.recover(path)  # before it is read as a base file
                    content = _content(file, cwd)
                    self._make_parents(os.path.dirname(path))
                    self._replace(path, content, file.mode)
                except OSError as error:
                    raise LaunchError("cannot write %s: %s" % (path, cause(error))) from None
        except LaunchError as error:
            self.undo_after(error)
            raise

    def undo(self) -> None:
        """Take everything back, the latest first.

        Raises `LaunchError` naming what could not be undone; that much is tried again next time.
        """
        kept: list[tuple[str, Callable[[], None]]] = []
        faults: list[str] = []
        while self._undo:
            path, action = self._undo.pop()
            try:
                action()
            except OSError as error:
                kept.insert(0, (path, action))
                faults.append("cannot undo %s: %s" % (path, cause(error)))
        self._undo = kept
        self._first_kept = {path for path, _ in kept}
        if faults:
            raise LaunchError("; ".join(faults))

    def undo_after(self, error: LaunchError) -> None:
        """Undo because of `error`; if that fails too, raise one `LaunchError` that tells both."""
        try:
            self.undo()
        except LaunchError as second:
            raise LaunchError("%s; %s" % (error, second)) from None

    def _make_run_dir(self, path: str) -> None:
        try:
            self._make_parents(os.path.dirname(path))
            try:
                os.mkdir(path, 0o700)
            except FileExistsError:
                self._adopt_run_dir(path)
            else:
                self._lock(path)
                self._undo.append((path, lambda: _remove_tree(path)))
                os.chmod(path, 0o700)  # a umask may have taken bits away
        except OSError as error:
            raise LaunchError("cannot make %s: %s" % (path, cause(error))) from None

    def _adopt_run_dir(self, path: str) -> None:
        """Use a directory that was there, if it is ours alone to use; its mode comes back."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            status = os.fstat(fd)
            if status.st_uid != os.geteuid():
                raise LaunchError("cannot use %s: it belongs to uid %d" % (path, status.st_uid))
            self._lock(path)
            before = stat.S_IMODE(status.st_mode)
            os.fchmod(fd, 0o700)
        finally:
            os.close(fd)
        self._undo.append((path, lambda: os.chmod(path, before)))

    def _lock(self, path: str) -> None:
        """Have the directory alone until all is undone.

        A launcher whose proxy was killed ends its upstream first and undoes its files then, while
        the proxy's successor may be writing those of the next user to the same place.
        """
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            text = "cannot use %s: another launcher has not yet undone what it wrote" % path
            raise LaunchError(text) from None
        except OSError:
            pass  # a file system without locks
        self._undo.append((path, lambda: os.close(fd)))

    def _make_parents(self, path: str) -> None:
        missing = []
        while not os.path.lexists(path):
            missing.append(path)
            path = os.path.dirname(path)
        for directory in reversed(missing):
            os.mkdir(directory, 0o700)
            self._undo.append((directory, _directory_remover(directory)))

    def _replace(self, path: str, content: bytes, mode: int) -> None:
        # The proxy's own room: what stands there is left over, perhaps another user's; and what is
        # written there is for this one process, so nobody waits for the disk.
        own = self._run_dir is not None and path.startswith(self._run_dir + os.sep)
        place.write_new(path, content, mode, lasting=not own)
        try:
            if path in self._first_kept:
                pass  # named twice: what was there first is kept already
            elif own:
                self._undo.append((path, lambda: place.remove(path, lasting=False)))
            elif place.keep(path):
                self._undo.append((path, lambda: place.put_back(path)))
            else:
                self._undo.append((path, lambda: place.remove(path)))
            self._first_kept.add(path)
            place.show_new(path, lasting=not own)
        except BaseException:
            place.discard_new(path)
            raise


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


def _directory_remover(path: str) -> Callable[[], None]:
    def remove() -> None:
        try:
            os.rmdir(path)
        except OSError:
            # Not empty: the upstream keeps something there. Not there: it was removed already.
            if not os.path.isdir(path) and os.path.lexists(path):
                raise

    return remove


def _remove_tree(path: str) -> None:
    """Remove a directory with its content, following no symbolic link."""
    if not os.path.lexists(path):
        return
    for directory, subdirectories, names in os.walk(path, topdown=False, onerror=_raise):
        for name in names:
            os.unlink(os.path.join(directory, name))
        for name in subdirectories:
            entry = os.path.join(directory, name)
            (os.unlink if os.path.islink(entry) else os.rmdir)(entry)
    os.rmdir(path)


def _raise(error: OSError) -> None:
    raise error
