"""What the proxy's own process needs of the kernel: privacy, and no zombies."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import resource
import signal
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

from proxy.errors import ProxyError
from proxy.server.early import PASSED_SIGNALS, STOP_SIGNALS

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Collection

    from proxy.settings import LimitSettings

logger = logging.getLogger(__name__)

# From <linux/prctl.h>
_PR_SET_DUMPABLE: Final = 4
_PR_SET_CHILD_SUBREAPER: Final = 36

# Seconds until another look when one of our own children stands first in the line of the dead:
# its owner waits for it and is about to.
_OWNER_IS_SLOW: Final = 0.05

_RESOLVER_THREADS: Final = 4  # libuv's, where UV_THREADPOOL_SIZE says nothing else


def protect() -> None:
    """Keep the keys in this process: no core dump, and no `/proc/<pid>/environ` for our own uid.

    Agent code usually runs as the same user and could read both. (A core limit of 0 would be
    inherited by the upstream, which is not ours to limit.)
    """
    _prctl(_PR_SET_DUMPABLE, 0)


# Files that are open whatever clients do: the loop's, the listeners', the launcher's, the log's.
_OWN_DESCRIPTORS: Final = 64
# Beside a client's connection may be one to the upstream and a pair to the control plane ...
_OF_A_CLIENT: Final = 4
# ... of which only the pair where nothing else is served.
_OF_A_PLACE: Final = 3
# Connections over the limit that are listened to, as they may be probes.
_PLACES: Final = 64


class Room(NamedTuple):
    """How many client connections there can be, and places beyond them for the control paths."""

    connections: int
    places: int


def room_in(descriptors: int, wanted: int) -> Room:
    """What so many descriptors are enough for, at most `wanted` connections."""
    free = max(descriptors - _OWN_DESCRIPTORS, 0)
    places = max(1, min(_PLACES, free // 16))
    connections = (free - _OF_A_PLACE * places) // _OF_A_CLIENT
    return Room(max(1, min(wanted, connections)), places)


def make_room(wanted: int) -> Room:
    """Raise the soft limit of open files for so many connections, as far as the hard limit lets us.

    The launcher gets the old limit back (`launched.own.process`).
    """
    needed = _OWN_DESCRIPTORS + _OF_A_PLACE * _PLACES + _OF_A_CLIENT * wanted
    return room_in(_allow_descriptors(needed), wanted)


def tell_of(room: Room, limits: LimitSettings) -> None:
    """Log what is missing; the default gives way without a warning."""
    wanted, asked = limits.connections, "connections" in limits.model_fields_set
    if room.connections < wanted:
        logger.log(
            logging.WARNING if asked else logging.INFO,
            "limits.connections is more than open files (ulimit -Hn) allow",
            extra={"wanted": wanted, "connections": room.connections},
        )


def _allow_descriptors(wanted: int) -> int:
    """How many there can be, up to `wanted`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reachable = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < reachable:
        resource.setrlimit(resource.RLIMIT_NOFILE, (reachable, hard))
    return reachable


async def take_resolver_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Have what looks up names (uvloop's libuv) make its threads at once. Raises `ProxyError`.

    Left to the first look-up, they may come too late: libuv aborts the process when the pod is at
    its limit of processes then.
    """
    release = threading.Event()
    threads = [threading.Thread(target=release.wait) for _ in range(_RESOLVER_THREADS)]
    try:
        for thread in threads:  # ours first: with these it is an error
            thread.start()
    except RuntimeError as error:
        raise ProxyError(f"cannot look up the host of upstream.url: {error}") from None
    finally:
        release.set()
    for thread in threads:
        thread.join()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # as the log's writer
    try:
        await loop.getaddrinfo("127.0.0.1", 0)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def adopt_orphans() -> None:
    """Become the parent of whatever a lost launcher leaves behind, so that it can be ended."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"prctl({option}, {value}): {os.strerror(code)}")


def let_nothing_disturb_the_end(loop: asyncio.AbstractEventLoop) -> None:
    """Call when everything is closed: the exit code is decided, and one signal more is no news.

    Otherwise one that comes between the end of the loop and that of the process would change it.
    """
    heeded = (*STOP_SIGNALS, *PASSED_SIGNALS)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, heeded)
    for number in heeded:
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class Reaper:
    """Waits for children that nobody else waits for (PID 1 and subreapers inherit them).

    `owned` names the pids that have an owner: a second `wait()` would take its exit code away.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, owned: Callable[[], Collection[int]]
    ) -> None:
        self._loop = loop
        self._owned = owned
        self._later: asyncio.TimerHandle | None = None

    def attach(self) -> None:
        """Reap from now on.

        A plain handler, because uvloop keeps SIGCHLD from `add_signal_handler` for child
        processes of its own kind, of which we start none. It only wakes the loop.
        """
        signal.signal(
            signal.SIGCHLD, lambda _number, _frame: self._loop.call_soon_threadsafe(self.reap)
        )

    def reap(self) -> None:
        """Call on every SIGCHLD; one signal may stand for many children."""
        with contextlib.suppress(ChildProcessError):  # no children at all
            while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if dead.si_pid in self._owned():
                    if self._later is not None:
                        self._later.cancel()
                    self._later = self._loop.call_later(_OWNER_IS_SLOW, self.reap)
                    return
                os.waitpid(dead.si_pid, os.WNOHANG)
                logger.debug("orphan reaped", extra={"pid": dead.si_pid})
