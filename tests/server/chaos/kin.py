"""Every process of a pod, and which one it is.

The test is a subreaper for as long as it watches: whatever a pod's processes leave behind becomes
its child, in whatever session it hides, so nothing is missed.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from proxy.launcher.kernel.prctl import PR_SET_CHILD_SUBREAPER, prctl
from proxy.processes import descendants
from tests.harness import ZYGOTE
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

# What is in the command line of a child of the launcher.
_UPSTREAM = b"witness.py"
_LOADER = b"exec(os.read("  # a fork server, and its children until one becomes the upstream
_EMBRYO = (b"--fd", b"--socket")  # between fork and exec


@contextmanager
def subreaper() -> Iterator[None]:
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(PR_SET_CHILD_SUBREAPER, 0)


class Relative(NamedTuple):
    """A living process of a pod. `role` is "stray" for one that nobody knows."""

    pid: int
    parent: int
    role: str
    command: str


def kin(roots: Collection[int], launcher: int | None) -> list[Relative]:
    """The living processes below this one, parents first; `roots` are those the test has started.

    `launcher` is its pid where the test has started it, else it is found.
    """
    found: list[Relative] = []
    for process in sorted(descendants(os.getpid())[1:], key=attrgetter("started")):
        if process.pid == ZYGOTE.pid:
            continue
        seen = _look(process.pid)
        if seen is None:
            _reap(process.pid, roots)
            continue
        parent, command = seen
        if process.pid in roots:
            role = "launcher" if process.pid == launcher else "proxy"
        else:
            role = _role(command, next((one for one in found if one.pid == parent), None), found)
        found.append(Relative(process.pid, parent, role, command.replace(b"\0", b" ").decode()))
    return found


def _role(  # noqa: PLR0911  a table of who is below whom
    command: bytes, parent: Relative | None, known: list[Relative]
) -> str:
    """`known` are all that are older."""
    match parent.role if parent is not None else None:
        case "proxy" if b"--fd" in command:
            return "launcher"
        case "launcher" if _UPSTREAM in command:
            return "upstream"
        case "launcher" if _LOADER in command:
            # The younger one is the older one's child, and was left to the launcher.
            return "waiting" if any(one.role == "forkserver" for one in known) else "forkserver"
        case "launcher" if any(mark in command for mark in _EMBRYO):
            return "embryo"
        case "forkserver":
            return "middle"
        case "middle":
            return "waiting"
        case "upstream":
            return "upstream's"
        case _:
            return "stray"


def _look(pid: int) -> tuple[int, bytes] | None:
    """Parent and command line of a living process."""
    if not alive(pid):
        return None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[1]), Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None


def _reap(pid: int, roots: Collection[int]) -> None:
    """A subreaper waits for what it was given; those of `roots` are waited for by who made them."""
    if pid not in roots:
        with suppress(ChildProcessError):  # somebody else's zombie
            os.waitpid(pid, os.WNOHANG)
