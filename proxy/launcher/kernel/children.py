"""The one owner of wait(), and the end of everything that an upstream leaves behind.

The launcher is a subreaper: whatever loses its parent below it becomes its child, so no descendant
gets away by forking twice or by taking a session of its own. A child stays a zombie until it is
waited for here, which makes signals by number safe: a number in our hands is not used again.
"""

from __future__ import annotations

import errno
import os
import signal
import time

from ..errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Loop

SWEEP_LIMIT = 5.0  # seconds for killed processes to go; longer means stuck in the kernel
POLL = 0.05  # seconds between looks at processes whose end sends us no signal


class Children:
    """Reaps every child; those under `watch` are reported and spared by `sweep`."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._watched: dict[int, Callable[[int, str], None]] = {}
        loop.on_signal(signal.SIGCHLD, self.reap)

    def watch(self, pid: int, callback: Callable[[int, str], None]) -> None:
        """Call `callback(code, reason)` when `pid` has ended, before it is waited for.

        Inside the callback the group of `pid` can be signalled safely. Must be called before the
        loop runs again after the child was made, or its end is lost.
        """
        self._watched[pid] = callback

    def forget(self, pid: int) -> None:
        """Watch it no more: a stray from now on."""
        self._watched.pop(pid, None)

    def owns(self, pid: int) -> bool:
        """Whether it is a child of ours, be it a zombie: its number is its own until `reap`."""
        try:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return False
        return True

    def reap(self) -> None:
        while True:
            try:
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if info is None:
                return
            callback = self._watched.pop(info.si_pid, None)
            try:
                if callback:
                    callback(*_verdict(info.si_code, info.si_status))
            finally:
                os.waitpid(info.si_pid, 0)

    def sweep(self) -> None:
        """Kill every child that is not watched, and what then becomes our child, to the last.

        Raises `LaunchError` when some will not die.
        """
        deadline = time.monotonic() + SWEEP_LIMIT
        while True:
            self.reap()
            strays = [pid for pid in _children() if pid not in self._watched]
            if not strays:
                return
            if time.monotonic() >= deadline:
                raise LaunchError("cannot kill process %d: it does not end" % strays[0])
            for pid in strays:
                send_signal(pid, signal.SIGKILL)
            self._loop.turn(POLL)


def send_signal(pid: int, number: int) -> None:
    """Signal a process (or, negative, a group); one that has ended is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass
    except PermissionError:
        pass  # took another user's identity: reported when it does not go away


def descendants(pid: int) -> list[int]:
    """The processes that `pid` has started, and those that these have, and so on."""
    found: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        parent = _parent(name) if name.isdigit() else None
        if parent is not None:
            found.setdefault(parent, []).append(int(name))
    waiting, below = [pid], []
    while waiting:
        below += (next_ones := found.get(waiting.pop(), []))
        waiting += next_ones
    return below


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError as error:
        return error.errno != errno.ESRCH
    return True


def _children() -> list[int]:
    """Our children, zombies included."""
    own = os.getpid()
    try:
        with open("/proc/self/task/%d/children" % own) as listing:
            return [int(pid) for pid in listing.read().split()]
    except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN
        return [
            int(name) for name in os.listdir("/proc") if name.isdigit() and _parent(name) == own
        ]


def _parent(pid: str) -> int | None:
    try:
        with open("/proc/%s/stat" % pid, "rb") as status:
            # The name in parentheses may hold anything: fields count from the last one.
            return int(status.read().rpartition(b")")[2].split()[1])
    except OSError:
        return None


def _verdict(how: int, status: int) -> tuple[int, str]:
    """Exit code (128 + n for signal n) and words for it."""
    if how == os.CLD_EXITED:
        return status, "exited with code %d" % status
    try:
        name = signal.Signals(status).name
    except ValueError:
        name = "signal %d" % status
    return 128 + status, "was killed by " + name
