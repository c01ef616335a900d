"""One run of an upstream to its readiness, and what it tells of itself there."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import time

from ..errors import LaunchError
from ..kernel.children import descendants, send_signal
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
        self._socket: socket.socket | None = None
        self._made: list[str] = []

    def start(self, spec: Spec, scratch: str, names: dict[str, list[str]]) -> None:
        """Raises `LaunchError`. `scratch` is its directory for temporary files.

        What is done with the `names` is part of its report.
        """
        ours, theirs = socket.socketpair()
        self._socket = ours
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
        """How many it has started that are there."""
        return len(descendants(self._pid)) if self._pid is not None else 0

    def report(self, what: bytes = b"?") -> dict[str, Any]:
        """Ask once (see `fork.recorded.reporter`); what it has made so far is remembered."""
        assert self._socket is not None
        data = b""
        self._socket.settimeout(REPORT_LIMIT)
        try:
            self._socket.sendall(what)
            while not data.endswith(b"\n"):
                chunk = self._socket.recv(65536)
                if not chunk:
                    raise LaunchError("cannot record: the upstream has ended")
                data += chunk
        except OSError as error:
            self._socket.close()  # half an answer is none, nor a part of the next one
            raise LaunchError("cannot record: the upstream does not answer: %s" % error) from None
        report: dict[str, Any] = json.loads(data)
        self._made = report["made"]
        return report

    def end(self) -> None:
        """Kill it, and remove the files and directories that it has made."""
        if self._pid is not None:
            try:
                self.report(b"m")
            except LaunchError:
                pass  # what it made before is known
            send_signal(-self._pid, signal.SIGKILL)
            self._loop.run_until(lambda: self._ended is not None, PROBE_TIMEOUT)
        self._output.close()
        if self._socket is not None:
            self._socket.close()
        for path in reversed(self._made):
            _remove(path)

    def _died(self, _code: int, reason: str) -> None:
        self._output.drain()
        self._ended = reason


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
