"""Watches what is read from the environment and which files are opened while modules are preloaded.

`os.environ` and `os.environb` keep their identity: what is exchanged is the dictionary inside
them, which every one of their methods goes through, and `posix.environ`, which is the same
dictionary. `remove` puts the very same objects back. An audit hook cannot be taken off: after
`remove` it is a function of the interpreter's that does nothing.

What native code reads through getenv(3) is not seen here: see `native` and `policy`.
"""

from __future__ import annotations

import functools
import os
import posix
import sys
from contextlib import contextmanager

from . import calls
from .looks import Looks
from .policy import iterated, matches, starts_harmlessly
from .stack import Threads, caller, in_view, is_own, modules, note_thread

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterator

    Modules = tuple[str, ...]  # who was being imported, innermost first

KEPT = 4  # different import stacks kept per name; one is proof enough
_THREADS = ("_thread.start_new_thread", "_thread.start_joinable_thread")
# Starting a program hands the environment on; and whatever it is handed, it can read its parent's
# (proc_pid_environ(5)) and any file.
_STARTING = frozenset(
    [
        "subprocess.Popen",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.system",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
    ]
)


class Audit:
    """`names`: name -> stacks of the modules that read it; `everything`: stacks that read them all.

    `patterns`: stacks that read all names of some lower-case patterns. `written`: names that
    modules set or removed. `files`: who looked at which. `who()` tells on whose behalf a name is
    used; by nobody's it is not noted. `names_only` is light: no files, no code that is executed.
    """

    def __init__(self, who: Callable[[], Modules] = modules, *, names_only: bool = False) -> None:
        self._who = who
        self.kept = KEPT
        self.names: dict[str, list[Modules]] = {}
        self.everything: list[Modules] = []
        self.patterns: list[tuple[tuple[str, ...], Modules]] = []
        self.written: dict[str, Modules] = {}
        self.files = Looks()
        self._look = (lambda *_: None) if names_only else self.files.hear
        self._executing = None if names_only else "exec"
        self._started = False  # a program, since the last module, with our knowledge
        self._reaped = 0
        self._threads = Threads()
        self._active = False
        self._data: Any = None
        self._installed: Any = None

    def install(self) -> None:
        self._data = os.environ._data  # type: ignore[attr-defined]  # noqa: SLF001
        self._put(Watched(self._data, self))
        self._installed = functools.partial(self._hook)
        sys.addaudithook(self._installed)
        self._threads.install()
        self._reaped = _reaped()
        self._active = True

    @contextmanager
    def paused(self) -> Iterator[None]:
        """For what this process does on its own account."""
        self._active = False
        try:
            yield
        finally:
            self._reaped = _reaped()
            self._active = True

    def to_json(self) -> dict[str, Any]:
        return {
            "names": self.names,
            "everything": self.everything,
            "patterns": self.patterns,
            "written": self.written,
            "files": self.files.to_json(),
        }

    def absorb(self, data: dict[str, Any]) -> None:
        """Add what another audit has found (`to_json`)."""
        for name, stacks in data["names"].items():
            self.names.setdefault(name, []).extend(tuple(stack) for stack in stacks)
        self.everything += [tuple(stack) for stack in data["everything"]]
        self.patterns += [(tuple(names), tuple(stack)) for names, stack in data["patterns"]]
        for name, stack in data["written"].items():
            self.written.setdefault(name, tuple(stack))
        self.files.absorb(data["files"])

    def finish(self) -> None:
        """Nothing more comes that a fork could hold: remove it, and be quick to answer."""
        self.files.finish()
        self.remove()

    def remove(self) -> None:
        self._active = False
        self._threads.remove()
        self._put(self._data)
        # It is called for thousands of events while an upstream starts: `{}.get(event, args)`
        # costs less than the shortest function in Python would.
        self._installed.__setstate__(({}.get, (), {}, None))

    def _put(self, data: Any) -> None:
        os.environ._data = data  # type: ignore[attr-defined]  # noqa: SLF001
        os.environb._data = data  # type: ignore[attr-defined]  # noqa: SLF001
        posix.environ = data

    def readers(self, name: str) -> Modules | None:
        """Who was being imported when `name` was read or written; None when it was not."""
        stacks = self.names.get(name)
        if stacks:
            return stacks[0]
        for patterns, stack in self.patterns:
            if matches(name, patterns):
                return stack
        if self.everything:
            return self.everything[0]
        return self.written.get(name)

    def note_asked(self, path: str) -> None:
        """A module has asked about a file without opening it."""
        if self._active:
            self.files.note_asked(path)

    def imported(self, module: str) -> None:
        """A program that C code has started in the meantime was started for `module`.

        The kernel counts the page faults of children that were waited for, and no child has none.
        """
        before, self._reaped = self._reaped, _reaped()
        if self._reaped != before and not self._started:
            self._note_start((module,))
        self._started = False

    def note(self, key: object) -> None:
        if self._active:
            name = _name(key)
            stacks = self.names.setdefault(name, [])
            if len(stacks) < self.kept:
                stack = self._who()
                if stack and stack not in stacks:
                    stacks.append(stack)

    def note_write(self, key: object) -> None:
        if self._active:
            stack = self._who()
            if stack:
                self.written.setdefault(_name(key), stack)

    def note_all(self) -> None:
        if not self._active:
            return
        frame = caller()
        kept = iterated(frame) if frame is not None else None
        stack = self._who()
        if kept is None:
            self._note_everything(stack)
        elif stack and (kept, stack) not in self.patterns:
            self.patterns.append((kept, stack))

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if not self._active:
            return
        self._look(event, args)
        if event in _STARTING:
            frame = sys._getframe(1)  # noqa: SLF001
            self._started = True
            if not is_own(frame) and not starts_harmlessly(frame):
                self._note_start()
        elif event == "open":
            if isinstance(args[0], (str, bytes)) and _is_environ(args[0]):
                self.note_all()
        elif event in ("os.putenv", "os.unsetenv"):
            self.note_write(args[0])
        elif event in _THREADS:
            note_thread(args[0])
        elif event in ("ctypes.dlsym", "ctypes.dlsym/handle"):
            self._note_calls(*calls.reads(args[1]))
        elif event == self._executing:
            self._note_calls(*calls.declares(args[0]))

    def _note_start(self, stack: Modules | None = None) -> None:
        self._note_everything(stack or self._who())
        self.files.note_blind(stack)

    def _note_calls(self, environment: bool, files: bool) -> None:  # noqa: FBT001  as found
        if not files:  # who sees the environment is counted as seeing files as well
            return
        stack, module = self._who(), calls.executed()
        if module is not None and module not in stack:
            stack = (module, *stack)
        self.files.note_blind(stack)
        if environment:
            self._note_everything(stack)

    def _note_everything(self, stack: Modules) -> None:
        if stack and stack not in self.everything:
            self.everything.append(stack)


class Watched:
    """Stands in for the dictionary inside `os.environ`; notes every look at it."""

    __slots__ = ("_audit", "_data")

    def __init__(self, data: dict[bytes, bytes], audit: Audit) -> None:
        self._data = data
        self._audit = audit

    def __getitem__(self, key: bytes) -> bytes:
        if not in_view():
            self._audit.note(key)
        return self._data[key]

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        self._audit.note(key)
        return self._data.get(key, default)

    def __contains__(self, key: object) -> bool:
        self._audit.note(key)
        return key in self._data

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._audit.note_write(key)
        self._data[key] = value

    def __delitem__(self, key: bytes) -> None:
        self._audit.note_write(key)
        if key not in self._data:
            self._audit.note(key)  # the KeyError tells that it was absent
        del self._data[key]

    def __iter__(self) -> Iterator[bytes]:
        self._audit.note_all()
        return iter(self._data)

    def __len__(self) -> int:
        self._audit.note_all()
        return len(self._data)

    def __getattr__(self, name: str) -> Any:
        """Any other method of a dictionary: taken as a look at everything."""
        self._audit.note_all()
        return getattr(self._data, name)

    def __eq__(self, other: object) -> bool:
        self._audit.note_all()
        return bool(self._data == other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        self._audit.note_all()
        return repr(self._data)


def _is_environ(path: str | bytes) -> bool:
    """A process's own is `/proc/self/environ`, or by any other way a file of that name: proc(5)."""
    return os.path.basename(os.fsdecode(path)) == "environ"


def _reaped() -> int:
    """Page faults of the children that were waited for: proc_pid_stat(5), cminflt."""
    fd = posix.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return int(posix.read(fd, 4096).rpartition(b")")[2].split()[8])
    finally:
        posix.close(fd)


def _name(key: object) -> str:
    """As the launcher writes names, whatever the locale."""
    if isinstance(key, str):
        key = os.fsencode(key)
    return key.decode("utf-8", "surrogateescape") if isinstance(key, bytes) else repr(key)
