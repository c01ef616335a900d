"""From the fork server to the upstream: two forks and what a fresh process would have."""

from __future__ import annotations

import os
import signal
import sys
import time
import warnings

from .prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, prctl
from .reporter import Reporter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .stream import Stream

ADOPTED_LIMIT = 5.0  # seconds for the kernel to give the grandchild to the launcher


def descend(message: dict[str, Any], descriptors: list[int], stream: Stream) -> bool:
    """Fork twice, so that the launcher (a subreaper) becomes the parent.

    In the fork server: tell the launcher the pid, return False. In the grandchild: True.
    """
    launcher = os.getppid()
    read, write = os.pipe()
    middle = _fork()
    if middle == 0:
        _middle(write, launcher)
        os.close(read)
        _settle(message, descriptors)
        return True
    os.close(write)
    said = os.read(read, 100)
    os.close(read)
    os.waitpid(middle, 0)
    stream.send({"pid": int(said)} if said.isdigit() else {"why": said.decode() or "it died"})
    return False


def _fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # threads that linger have been spoken of
        return os.fork()


def _middle(write: int, launcher: int) -> None:
    """Fork again and end; returns in the grandchild only, once it is the launcher's child."""
    try:
        child = _fork()
    except OSError as error:
        os.write(write, ("cannot fork: %s" % error.strerror).encode())
        os._exit(1)
    if child:
        os.write(write, b"%d" % child)
        os._exit(0)
    os.close(write)
    deadline = time.monotonic() + ADOPTED_LIMIT
    while os.getppid() != launcher:
        if time.monotonic() > deadline:
            os._exit(127)
        time.sleep(0.0002)
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:
        os._exit(127)


def _settle(message: dict[str, Any], descriptors: list[int]) -> None:
    """Make the forked copy what the interpreter would have been at the start of the command."""
    prctl(PR_SET_DUMPABLE, 1)
    os.setsid()
    stdout, stderr = descriptors[:2]
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    for name in message["unset"]:
        os.environb.pop(_raw(name), None)
    for name, value in message["env"].items():
        os.environb[_raw(name)] = _raw(value)
    _reseed()
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
