"""The run directory: one start's alone, from before its first file until all is taken back.

Whatever has come into it goes with it, whoever brought it; what stood in a directory that was there
before stays. A note in it (`.deferred-init`) says what that was, and what the start does elsewhere,
so that the successor of a launcher that was killed can take all of it back.

Nothing below it is reached through a symbolic link: one start's code could have made it to lead
the next one's files out.
"""

from __future__ import annotations

import fcntl
import json
import os
import stat

from ..errors import LaunchError
from . import place, tree
from .steps import SEARCH

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

NOTE = ".deferred-init"
NOTE_LIMIT = 16 * 1024 * 1024  # bytes; more is no note of ours
VERSION = 1


class Room:
    """`fd` is the directory, `parent` the one that it is in; both are the room's to close."""

    def __init__(self, path: str, parent: int, fd: int, facts: dict[str, Any]) -> None:
        """`facts`: `made` by us; else its `mode`, and the names that `stood` in it.

        `inside`: [path below it, whether it is a directory] of what we make among those.
        """
        self.path = path
        self._name = os.path.basename(path)
        self._parent = parent
        self._fd = fd
        self._facts = facts

    @classmethod
    def make(cls, path: str) -> Room:
        """Make it, or use one that is there and ours to use. Raises `OSError`, `LaunchError`."""
        parent = os.open(os.path.dirname(path), SEARCH)
        made = False
        try:
            try:
                os.mkdir(os.path.basename(path), 0o700, dir_fd=parent)
                made = True
            except FileExistsError:
                pass
            fd = os.open(os.path.basename(path), tree.DIRECTORY, dir_fd=parent)
            try:
                return cls(path, parent, fd, _entered(path, fd, made=made))
            except BaseException:
                os.close(fd)
                raise
        except BaseException:
            os.close(parent)
            raise

    @classmethod
    def left(cls, path: str) -> tuple[Room, list[dict[str, Any]]] | None:
        """One that a launcher has left, and the steps that are noted in it; None: there is none.

        Nor is there one while the launcher lives that has it.
        """
        try:
            parent = os.open(os.path.dirname(path), SEARCH)
        except OSError:
            return None
        fd = -1
        try:
            fd = os.open(os.path.basename(path), tree.DIRECTORY, dir_fd=parent)
            note = _note(fd) if os.fstat(fd).st_uid == os.geteuid() else None
            if note is not None and _locked(fd):
                return cls(path, parent, fd, note["room"]), note.get("steps", [])
        except OSError:
            pass
        for opened in (fd, parent):
            if opened >= 0:
                os.close(opened)
        return None

    def note(self, steps: list[dict[str, Any]]) -> None:
        """Say what is about to be done, before it is."""
        data = json.dumps({"version": VERSION, "room": self._facts, "steps": steps}).encode()
        place.write_new(self._fd, NOTE, data, 0o600, lasting=False)
        place.show_new(self._fd, NOTE, lasting=False)

    def enter(self, path: str, steps: list[dict[str, Any]]) -> tuple[int, str]:
        """The directory of a file in it, made if need be, and the file's name in that.

        The descriptor is the caller's to close.
        """
        *directories, name = os.path.relpath(path, self.path).split(os.sep)
        stood = bool(self._facts["stood"]) and [*directories, name][0] in self._facts["stood"]
        if stood:
            for depth in range(1, len(directories) + 1):
                self._facts["inside"].append([os.sep.join(directories[:depth]), True])
            self._facts["inside"].append([os.sep.join([*directories, name]), False])
            self.note(steps)
        return self._walk(directories, make=True), name

    def undo(self, say: Callable[[str | None], None]) -> None:
        """Raises `OSError`; can be tried again then. `say` is told what was moved aside."""
        os.fchmod(self._fd, 0o700)
        for path, is_directory in reversed(self._facts["inside"]):
            self._take(path, say, is_directory=is_directory)
        self._purge(say)
        tree.remove(self._fd, NOTE)
        if not tree.is_at(self._parent, self._name, tree.identity(os.fstat(self._fd))):
            # Taken away, and emptied wherever it is; what is in its place was put there since.
            say(place.remove(self._parent, self._name, lasting=False))
        elif self._facts["made"]:
            self._remove(say)
        else:
            os.fchmod(self._fd, self._facts["mode"])

    def close(self) -> None:
        os.close(self._fd)  # and its lock
        os.close(self._parent)

    def _walk(self, directories: list[str], *, make: bool) -> int:
        fd = os.dup(self._fd)
        for name in directories:
            try:
                if make and not place.exists(fd, name):
                    os.mkdir(name, 0o700, dir_fd=fd)
                inner = os.open(name, tree.DIRECTORY, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        return fd

    def _take(self, path: str, say: Callable[[str | None], None], *, is_directory: bool) -> None:
        *directories, name = path.split(os.sep)
        try:
            fd = self._walk(directories, make=False)
        except OSError:
            return  # a directory on the way is gone, or something else: it is not there any more
        try:
            if not is_directory:
                say(place.remove(fd, name, lasting=False))
            else:
                os.rmdir(name, dir_fd=fd)
        except OSError:
            if not is_directory:
                raise
        finally:
            os.close(fd)

    def _purge(self, say: Callable[[str | None], None]) -> None:
        keep = {*self._facts["stood"], NOTE}
        try:
            tree.empty(self._fd, keep)
        except OSError:
            for name in os.listdir(self._fd):
                if name not in keep:
                    say(tree.clear(self._fd, name))

    def _remove(self, say: Callable[[str | None], None]) -> None:
        try:
            os.rmdir(self._name, dir_fd=self._parent)
        except OSError as error:
            if not os.listdir(self._fd):
                raise
            say("%s stays: %s" % (self._name, error.strerror))


def _entered(path: str, fd: int, *, made: bool) -> dict[str, Any]:
    """Have the directory alone; returns the facts of it. Its mode is 0700 from here on."""
    status = os.fstat(fd)
    if status.st_uid != os.geteuid():
        raise LaunchError("cannot use %s: it belongs to uid %d" % (path, status.st_uid))
    if not _locked(fd):
        # A launcher whose proxy was killed ends its upstream first and takes its files away then,
        # while the proxy's successor may be writing those of the next user to the same place.
        text = "cannot use %s: another launcher has not yet undone what it wrote" % path
        raise LaunchError(text)
    os.fchmod(fd, 0o700)  # a umask may have taken bits away
    stood = [] if made else os.listdir(fd)
    return {"made": made, "mode": stat.S_IMODE(status.st_mode), "stood": stood, "inside": []}


def _locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks
    return True


def _note(fd: int) -> dict[str, Any] | None:
    """The note in the directory; None when there is none, or none that makes sense."""
    try:
        note = os.open(NOTE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=fd)
    except OSError:
        return None
    with open(note, "rb") as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return None
        try:
            data = json.loads(stream.read(NOTE_LIMIT).decode())
        except (ValueError, RecursionError):
            return None
    try:
        return data if data["version"] == VERSION and _is_sound(data["room"]) else None
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _is_sound(facts: dict[str, Any]) -> bool:
    """Whether it is what a room notes; a path in it leads nowhere but down."""
    paths = [path.split(os.sep) for path, _ in facts["inside"]]
    return (
        isinstance(facts["made"], bool)
        and isinstance(facts["mode"], int)
        and isinstance(facts["stood"], list)
        and not any(name in ("", ".", "..") for path in paths for name in path)
    )
