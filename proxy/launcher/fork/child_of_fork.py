"""From the fork server to the upstream: two forks and what a fresh process would have.

    fork server ── middle ── child

The child is made ahead of time, because forking a large process takes tens of milliseconds. It
waits for its orders as a grandchild of the fork server. With the orders it lets the middle process
end, so that the launcher (a subreaper) becomes its parent, and turns into the upstream.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
import warnings

from ..kernel.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from .collector import hold_off
from .reporter import Reporter
from .stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

ADOPTED_LIMIT = 5.0  # seconds for the kernel to give the child to the launcher


SHELL = "/bin/sh"


class Grown(Exception):  # noqa: N818  control flow: this process is the upstream from here on
    """Raised in the child once it has become what a fresh interpreter would be."""


class Child:
    """A child in waiting. Making one raises `Grown` in the child itself, later on."""

    def __init__(self, control: Stream) -> None:
        """`control` is the fork server's own stream, which no child may keep.

        Raises `OSError` when it cannot be forked.
        """
        launcher = os.getppid()
        ours, theirs = socket.socketpair()
        read, write = os.pipe()
        self.middle = _fork()
        if self.middle == 0:
            ours.close()
            os.close(read)
            control.close()
            go = _middle(write)
            os.close(write)
            _grow(theirs, go, launcher)
            raise Grown
        theirs.close()
        os.close(write)
        said = os.read(read, 100)
        os.close(read)
        self._stream = Stream(ours)
        self.pid = int(said) if said.isdigit() else 0
        self.fault = said.decode() or "it died"

    def release(self, message: dict[str, Any], descriptors: list[int]) -> dict[str, Any]:
        """Give it its orders; returns what the launcher is to be told."""
        if self.pid:
            self._stream.send(message, descriptors)
        self._stream.close()
        os.waitpid(self.middle, 0)
        return {"pid": self.pid} if self.pid else {"why": self.fault}


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads that linger have been spoken of
        return os.fork()


def _middle(write: int) -> int:
    """Fork again, then wait for the child to say go. Returns in the child only: what to close."""
    wait, go = os.pipe()
    try:
        child = _fork()
    except OSError as error:
        os.write(write, ("cannot fork: %s" % error.strerror).encode())
        os._exit(1)
    if child:
        os.close(go)
        os.write(write, b"%d" % child)
        _await_end(wait, write)
    os.close(wait)
    return go


def _await_end(wait: int, write: int) -> NoReturn:
    """End when the other end of `wait` is closed: the child has its orders, or has ended.

    The end of a process of hundreds of megabytes takes 20 ms, which the child would have to wait
    for. So this one becomes something small, where there is a shell to become.
    """
    os.dup2(wait, 0)
    os.close(wait)
    os.close(write)
    try:
        os.execve(SHELL, [SHELL, "-c", "read _"], {})
    except OSError:
        os.read(0, 1)
    finally:
        os._exit(0)


def _grow(theirs: socket.socket, go: int, launcher: int) -> None:
    """Wait for orders, change parents, become a fresh process. Ends when no orders come."""
    os.setsid()  # now, so that its group can be signalled from the moment its number is known
    stream = Stream(theirs)
    message, descriptors = stream.receive()
    if message is None:
        os._exit(0)
    os.close(go)
    deadline = time.monotonic() + ADOPTED_LIMIT
    while os.getppid() != launcher:
        if time.monotonic() > deadline:
            os._exit(127)
        time.sleep(0.0001)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(127)
    stream.close()
    _settle(message, descriptors)
    for fd in descriptors:
        os.close(fd)


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
    _reseed()
    hold_off()
    _retitle(message["title"], message["name"])
    if message.get("report"):
        Reporter(os.dup(descriptors[2]))


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _reseed() -> None:
    """Part from the parent's random numbers.

    `random` does it by itself at a fork, `secrets`, `uuid4` and OpenSSL ask the kernel or notice a
    fork, `tempfile` looks at the pid. numpy's global generator does not.
    """
    numpy = sys.modules.get("numpy.random")
    seed = getattr(numpy, "seed", None)
    if seed:
        seed()


def _retitle(argv: list[str], name: str) -> None:
    """Let `ps` show the upstream's command: write it over the fork server's arguments.

    They take at least as many bytes; what is over reads as empty arguments. A failure is cosmetic.
    """
    title = b"".join(_raw(item) + b"\0" for item in argv)
    try:
        with open("/proc/self/comm", "wb", buffering=0) as comm:
            comm.write(os.fsencode(name)[:15])
        with open("/proc/self/stat", "rb") as status:
            fields = status.read().rpartition(b")")[2].split()
        start, end = int(fields[45]), int(fields[46])  # arg_start, arg_end: proc_pid_stat(5)
        if not 0 < len(title) <= end - start:
            return
        with open("/proc/self/mem", "r+b", buffering=0) as memory:
            memory.seek(start)
            memory.write(title.ljust(end - start, b"\0"))
    except (OSError, ValueError, IndexError):
        pass
