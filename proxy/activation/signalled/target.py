"""Finds the one process that a signal is meant for, and never signals another.

A pid alone says little: it may be somebody else's by the time of the signal. So a process is known
by its pid and the time it started, held by a pidfd (pidfd_open(2)), and looked at again between
opening that and sending.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.errors import ActivationError

if TYPE_CHECKING:
    from collections.abc import Iterator

# A process writes its pidfile after it has started; clocks are read some moments apart.
_PIDFILE_SLACK: Final = 2.0
_HERTZ: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Found:
    """A living process; `started` is in clock ticks since boot and never changes."""

    pid: int
    started: int
    parent: int
    line: str


@dataclass(frozen=True)
class Target:
    """Which process: its pidfile, a pattern for its command line, or both."""

    pidfile: str | None
    process: str | None

    def __str__(self) -> str:
        named = [f"pidfile {self.pidfile}"] if self.pidfile else []
        return " and ".join([*named, *([f"process {self.process!r}"] if self.process else [])])

    @property
    def named(self) -> bool:
        return self.pidfile is not None or self.process is not None

    def find(self) -> Found | None:
        """The process, or None when there is none. Raises `ActivationError` when there are more."""
        if self.pidfile is not None:
            found = self._by_pidfile(Path(self.pidfile))
            return found if found is not None and self._fits(found) else None
        every = [found for found in _processes() if self._fits(found)]
        pids = {found.pid for found in every}
        # A server's workers have its command line, too: the one above them is the server.
        tops = [found for found in every if found.parent not in pids]
        if len(tops) > 1:
            numbers = ", ".join(str(found.pid) for found in tops)
            raise ActivationError(f"cannot choose: {self} fits processes {numbers}")
        return tops[0] if tops else None

    def hold(self, found: Found) -> Held | None:
        """`found` by its pidfd, if it is still the process that is meant."""
        try:
            descriptor = os.pidfd_open(found.pid)
        except ProcessLookupError:
            return None
        # The pidfd is of whoever has the pid at this moment: is that still the same?
        if self.find() != found:
            os.close(descriptor)
            return None
        return Held(found, descriptor)

    def _fits(self, found: Found) -> bool:
        return self.process is None or fnmatchcase(found.line, self.process)

    def _by_pidfile(self, path: Path) -> Found | None:
        try:
            text, written = path.read_text().strip(), path.stat().st_mtime
        except (OSError, UnicodeDecodeError):
            return None
        if not (text.isascii() and text.isdigit()) or int(text) == os.getpid():
            return None
        found = _process(Path("/proc") / str(int(text)))
        if found is None or _wall_clock(found.started) > written + _PIDFILE_SLACK:
            return None  # a stale file: the pid has gone to somebody who started later
        return found


class Held:
    """A process held by a pidfd. `ended` is done when it has ended."""

    def __init__(self, found: Found, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        self.found = found
        self.ended: asyncio.Future[None] = loop.create_future()
        self._descriptor: int | None = descriptor
        loop.add_reader(descriptor, self._readable)

    def signal(self, number: int) -> None:
        """Send a signal; to one that has ended it is no error. Raises `ActivationError`."""
        if self._descriptor is None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)
        except PermissionError:
            raise ActivationError(
                f"cannot signal process {self.found.pid}: it is another user's"
            ) from None

    async def end(self, number: int, grace: float) -> None:
        """The signal `number`, at most `grace` seconds, KILL."""
        self.signal(number)
        await asyncio.wait({self.ended}, timeout=grace)
        if not self.ended.done():
            self.signal(signal.SIGKILL)
            await asyncio.wait({self.ended}, timeout=grace + 1)

    def close(self) -> None:
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None

    def _readable(self) -> None:
        self.close()
        if not self.ended.done():
            self.ended.set_result(None)


def _processes() -> Iterator[Found]:
    own = os.getpid()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != own and (found := _process(entry)):
            yield found


def _process(entry: Path) -> Found | None:
    """By proc(5); None for a zombie, a kernel thread, or one that is gone."""
    try:
        # The name in parentheses may contain anything, so count from its end.
        fields = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        line = (entry / "cmdline").read_bytes()
    except OSError:
        return None
    if fields[0] in {"Z", "X"} or not line:
        return None
    text = line.rstrip(b"\0").replace(b"\0", b" ").decode("utf-8", "surrogateescape")
    return Found(int(entry.name), int(fields[19]), int(fields[1]), text)


def _wall_clock(ticks: int) -> float:
    """Seconds since the epoch, of a moment in ticks since boot."""
    return time.time() - (time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / _HERTZ)
