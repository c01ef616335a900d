"""From the fork server to the upstream: two forks and what a fresh process would have.

    fork server ── middle ── child

The child is made ahead of time, because forking a large process takes tens of milliseconds. The
middle process ends at once, so that the launcher (a subreaper) is its parent from then on. It waits
for its orders on a socket that nobody but the launcher has the other end of: what is delivered
never passes through the fork server, of which the next child is a copy.

    here:     {"pid": n}                                        at birth
    launcher: {"delivered": […], "files": […], "run_dir": …, "env": {…}, "unset": […],
               "title": […], "name": …, "report": null | {…}}, with stdout, stderr (and a
               report's socket)
    here:     {"why": null | text}                              with a text it ends
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
import warnings

from ..kernel.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from .recorded.reporter import Reporter
from .stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

ADOPTED_LIMIT = 5.0  # seconds for the kernel to give the child to the launcher
_POLL = 0.0005  # seconds between looks at who the parent is


class Grown(Exception):  # noqa: N818  control flow: this process is the upstream from here on
    """Raised in the child once it has become what a fresh interpreter would be."""


def bear(
    end: int,
    control: Stream,
    refusal: Callable[[dict[str, Any]], str | None],
    anew: Callable[[], None],
) -> None:
    """Make a child that waits for its orders at the socket `end`.

    `control` is the fork server's own stream, which no child may keep; `refusal(orders)` says why
    they cannot be carried out; `anew()` makes anew what no two processes share. Raises `OSError`
    when no child could be made, and `Grown` in the child itself, later on.
    """
    launcher = os.getppid()
    middle = _fork()
    if middle == 0:
        _leave_it_to_a_child()
        control.close()
        orders, descriptors = _wait(Stream(socket.socket(fileno=end)), launcher, refusal)
        anew()
        _settle(orders, descriptors)
        raise Grown
    _, status = os.waitpid(middle, 0)
    if status:
        number = os.WEXITSTATUS(status) if os.WIFEXITED(status) else errno.EINTR
        raise OSError(number, os.strerror(number))


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which have been looked for
        return os.fork()


def _leave_it_to_a_child() -> None:
    """Fork again and end; returns in the child only."""
    number = 0
    try:
        if _fork() == 0:
            return
    except OSError as error:
        number = error.errno or errno.EAGAIN
    os._exit(number)


def _wait(
    stream: Stream, launcher: int, refusal: Callable[[dict[str, Any]], str | None]
) -> tuple[dict[str, Any], list[int]]:
    """Change parents, then wait for orders. Ends when none come that can be carried out."""
    deadline = time.monotonic() + ADOPTED_LIMIT
    while os.getppid() != launcher:
        if time.monotonic() > deadline:
            os._exit(127)
        time.sleep(_POLL)
    # Its group is to be signalled by its number, once that is known. And the kernel holds a lock
    # while it changes parents, which this waits for: a death signal asked for in the middle of that
    # would come at once.
    os.setsid()
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(127)
    stream.send({"pid": os.getpid()})
    orders, descriptors = stream.receive()
    if orders is None:
        os._exit(0)
    why = refusal(orders)
    stream.send({"why": why})
    if why is not None:
        os._exit(0)
    stream.close()
    return orders, descriptors


def _settle(message: dict[str, Any], descriptors: list[int]) -> None:
    """Make the forked copy what the interpreter would have been at the start of the command."""
    prctl(PR_SET_DUMPABLE, 1)
    stdout, stderr = descriptors[:2]
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in message["unset"]:
        os.environb.pop(_raw(name), None)
    for name, value in message["env"].items():
        os.environb[_raw(name)] = _raw(value)
    _rewrite(message["title"], message["name"], {*message["unset"], *message["env"]})
    if message.get("report") is not None:
        Reporter(os.dup(descriptors[2]), message["report"])
    for fd in descriptors:
        os.close(fd)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _rewrite(argv: list[str], name: str, changed: set[str]) -> None:
    """Let `ps` show the upstream's command, and nobody the values of variables that were changed.

    Both lie where the kernel has put them at the fork server's start: proc_pid_cmdline(5),
    proc_pid_environ(5). The arguments take at least as many bytes as the command; what is over
    reads as empty ones. What is left of the environment is still in use, and stays where it is.
    """
    title = b"".join(_raw(item) + b"\0" for item in argv)
    names = {_raw(item) for item in changed}
    try:
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(os.fsencode(name)[:15])
        with open("/proc/self/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
        # arg_start, arg_end, env_start, env_end: proc_pid_stat(5)
        start, end, first, last = (int(field) for field in fields[45:49])
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            if 0 < len(title) <= end - start:
                memory.seek(start)
                memory.write(title.ljust(end - start, b"\0"))
            memory.seek(first)
            for entry in memory.read(last - first).split(b"\0"):
                if entry.partition(b"=")[0] in names:
                    memory.seek(first)
                    memory.write(bytes(len(entry)))
                first += len(entry) + 1
    except (OSError, ValueError, IndexError):
        pass  # the title is for people; the values are those of the pod that anybody in it may know
