"""What preloaded modules leave in the process that a fork cannot carry over faithfully.

Descriptors: a fork shares the open file with its parent and with every later fork. That is
harmless for regular files and devices opened for reading (their offset is shared; libraries that
keep one use it through a mapping or pread). It is not for sockets, pipes, epoll and eventfd
instances or files opened for writing: two processes would take each other's events and bytes.
Child processes stay the fork server's, so the upstream could not wait for them. Threads do not
survive a fork at all (see `threads`). And whoever changes the working directory at import does it
after the program was found there, which in a fork is looked for last.

Memory that is mapped shared stays shared, and with it locks between processes: harmless for the
first fork, whose parent does not touch it, and for no other (`shared_memory`).
"""

from __future__ import annotations

import fcntl
import gc
import os
import stat


class Leftovers:
    """Compares with the moment it was made."""

    def __init__(self) -> None:
        self._known = set(_descriptors())
        self._told: set[int] = set()
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY)
        self._known.add(self._home)

    def check(self) -> str | None:
        """What was left behind since the last call, reads on after "module X"."""
        left = self._descriptors()
        if left:
            gc.collect()  # it may hang on a cycle of garbage
            left = self._descriptors()
        if left:
            self._known.update(left)  # all of them are said at once, of the module that did it
            return "left %s open" % next(iter(left.values()))
        children = [pid for pid in _children() if pid not in self._told]
        self._told.update(children)
        return "left process %d behind" % children[0] if children else self._moved()

    def close(self) -> None:
        """No more checks; a fork shall find nothing of ours open."""
        os.close(self._home)

    def _moved(self) -> str | None:
        if os.path.samestat(os.stat("."), os.fstat(self._home)):
            return None
        os.fchdir(self._home)  # said once, of the module that did it
        return "changes the working directory"

    def _descriptors(self) -> dict[int, str]:
        """Those that were not there before, and what they are."""
        present = _descriptors()
        self._known.intersection_update(present)
        kinds = {fd: _shared_state(fd) for fd in present if fd not in self._known}
        found = {fd: kind for fd, kind in kinds.items() if kind}
        self._known.update(fd for fd in present if fd not in found)
        return found


def _descriptors() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        try:
            os.fstat(fd)
        except OSError:
            continue  # the one that listed the directory
        found.append(fd)
    return found


def _shared_state(fd: int) -> str | None:
    """Words for a descriptor that must not be shared; None for one that may be."""
    try:
        mode = os.fstat(fd).st_mode
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        target = os.readlink("/proc/self/fd/%d" % fd)
    except OSError:
        return None  # closed meanwhile
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return "%s for writing" % target if writable else None
    if stat.S_ISCHR(mode):
        return None if target in ("/dev/null", "/dev/zero") or not writable else target
    return target


def _children() -> list[int]:
    """Children of every thread, zombies included."""
    found = []
    for task in os.listdir("/proc/self/task"):
        try:
            with open("/proc/self/task/%s/children" % task) as listing:
                found += [int(pid) for pid in listing.read().split()]
        except OSError:
            continue
    return found


def shared_memory() -> dict[str, str]:
    """What is mapped so that a fork and its parent would write to the same memory: where, what."""
    found = {}
    with open("/proc/self/maps") as maps:
        for line in maps:
            fields = line.rstrip("\n").split(None, 5)
            if fields[1][1] == "w" and fields[1][3] == "s":
                found[fields[0]] = fields[5] if len(fields) > 5 else "no file"
    return found
