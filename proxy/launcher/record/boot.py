"""One run of an upstream to its readiness, and what it tells of itself there."""

from __future__ import annotations

import array
import json
import os
import shutil
import signal
import socket
import time

from ..errors import LaunchError
from ..kernel.children import descendants, send_signal
from ..kernel.loop import READ
from ..session.spec import Spec
from ..upstream.output import Output
from .ready import PROBE_TIMEOUT, Ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..warm.zygote import Zygote

PROBE_INTERVAL = 0.1  # seconds
REPORT_LIMIT = 30.0  # seconds for an upstream that is busy with its own start, too
MADE = b"m"  # asks for what was made only
TAIL = 5  # lines of the upstream's stderr in an error


class Boot:
    """One run of the upstream that tells what it has loaded and made."""

    def __init__(self, loop: Loop, children: Children, zygote: Zygote, ready: Ready) -> None:
        self._loop = loop
        self._children = children
        self._zygote = zygote
        self._ready = ready
        self._output = Output(loop, lambda _stream, line: ready.hear(line))
        self._pid: int | None = None
        self._ended: str | None = None
        self._births: socket.socket | None = None
        self._ends: list[socket.socket] = []  # one for each of its processes, the first one's first
        self._told = 0  # of the processes that it has forked
        self._made: list[str] = []

    def start(self, spec: Spec, scratch: str, names: dict[str, list[str]]) -> None:
        """Raises `LaunchError`. `scratch` is its directory for temporary files.

        What is done with the `names` is part of its report.
        """
        self._births, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._births.setblocking(False)
        self._loop.watch(self._births.fileno(), READ, self._born)
        stdout, stderr = self._output.open()
        spec = _with_env(spec, {"TMPDIR": scratch})
        try:
            self._pid = self._zygote.fork(spec, stdout, stderr, report=theirs.fileno(), names=names)
        finally:
            theirs.close()
            os.close(stdout)
            os.close(stderr)
        self._children.watch(self._pid, self._died)

    def wait(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not self._ready.check():
            if self._ended is not None:
                tail = " | ".join(self._output.excerpt().splitlines()[-TAIL:])
                raise LaunchError("cannot record: the upstream %s: %s" % (self._ended, tail))
            if time.monotonic() > deadline:
                late = "cannot record: the upstream was not ready within %g s (%s)"
                raise LaunchError(late % (timeout, self._ready.where))
            self._loop.run_until(lambda: self._ended, PROBE_INTERVAL)

    @property
    def processes(self) -> int:
        """How many it has started that are there, and have not told anything."""
        return len(descendants(self._pid)) - self._told if self._pid is not None else 0

    def report(self, what: bytes = b"?") -> dict[str, Any]:
        """Ask once (see `fork.recorded.reporter`), and those it has forked.

        What they have made so far is remembered. Raises `LaunchError` when the first has no answer.
        """
        self._born(READ)
        if not self._ends:
            raise LaunchError("cannot record: the upstream has ended")
        told = [_asked(self._ends[0], what)]
        for end in self._ends[1:]:
            try:
                told.append(_asked(end, what))
            except LaunchError:
                pass  # many are forked for a moment only
        self._told = len(told) - 1
        self._made = list(dict.fromkeys(path for report in told for path in report["made"]))
        return told[0] if what == MADE else _together(told)

    def end(self) -> None:
        """Kill it, and remove the files and directories that it has made."""
        if self._pid is not None:
            try:
                self.report(MADE)
            except LaunchError:
                pass  # what it made before is known
            send_signal(-self._pid, signal.SIGKILL)
            self._loop.run_until(lambda: self._ended is not None, PROBE_TIMEOUT)
        self._output.close()
        if self._births is not None:
            self._loop.unwatch(self._births.fileno())
            self._births.close()
        for end in self._ends:
            end.close()
        for path in reversed(self._made):
            _remove(path)

    def _born(self, _events: int) -> None:
        """Processes with something to tell."""
        assert self._births is not None
        fd = array.array("i", [0])
        while True:
            try:
                data, rights, _, _ = self._births.recvmsg(1, socket.CMSG_SPACE(fd.itemsize))
            except BlockingIOError:
                return
            if not data:
                self._loop.unwatch(self._births.fileno())
                return
            for _, _, descriptors in rights:
                self._ends += [socket.socket(fileno=n) for n in array.array("i", descriptors)]

    def _died(self, _code: int, reason: str) -> None:
        self._output.drain()
        self._ended = reason


def _asked(end: socket.socket, what: bytes) -> dict[str, Any]:
    """Raises `LaunchError`."""
    data = b""
    try:
        end.settimeout(REPORT_LIMIT)
        end.sendall(what)
        while not data.endswith(b"\n"):
            chunk = end.recv(65536)
            if not chunk:
                raise LaunchError("cannot record: the upstream has ended")
            data += chunk
    except OSError as error:
        end.close()  # half an answer is none, nor a part of the next one
        raise LaunchError("cannot record: the upstream does not answer: %s" % error) from None
    report: dict[str, Any] = json.loads(data)
    return report


def _together(told: list[dict[str, Any]]) -> dict[str, Any]:
    """What all have loaded, and done with names; the state is that of the first."""
    found = dict(told[0])
    for report in told[1:]:
        found["modules"] = list(dict.fromkeys([*found["modules"], *report["modules"]]))
        found["seconds"] = {**report["seconds"], **found["seconds"]}
        if "needed" in found:
            for module, needed in report["needed"].items():
                found["needed"][module] = [*found["needed"].get(module, ()), *needed]
            for kind in ("reads", "likely"):
                found[kind] = [*found[kind], *report[kind]]
    return found


def _remove(path: str) -> None:
    try:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        pass  # removed by the upstream itself


def _with_env(spec: Spec, env: dict[str, str]) -> Spec:
    copy = Spec.__new__(Spec)
    for kind in Spec.__mro__:
        for name in getattr(kind, "__slots__", ()):
            setattr(copy, name, getattr(spec, name))
    copy.env = dict(spec.env, **env)
    return copy
