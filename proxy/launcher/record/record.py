"""Finds out which modules of an upstream can be preloaded.

    boot    run the upstream once to its readiness, note the modules it has loaded, end it
    trial   in a fresh interpreter, import them under audit; strike every module that reads, sets
            or iterates over a name that may be delivered, raises, or leaves behind what a fork
            cannot carry over, and every module that imports such a one
    again   with those blocked, until a fresh interpreter finds nothing more to strike

One trial is not enough: the first reader fills a process-wide cache and hides the next one. The
last trial, in which nothing was struck and nothing blocked was asked for, is the verification.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import tempfile
import time

from ..errors import LaunchError
from ..kernel.children import send_signal
from ..session.preload import LINGER
from ..session.spec import Spec
from ..upstream.output import Output
from ..warm.birth import PACKAGE
from ..warm.zygote import Zygote
from .planfile import Plan

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.preload import Preload

ROUNDS = 12  # trials; each strikes at least one module, and chains of caches are short
PROBE_INTERVAL = 0.1  # seconds
PROBE_TIMEOUT = 2.0  # seconds
TAIL = 5  # lines of the upstream's stderr in an error
SHOWN = 5  # of a trial's finds, which may be thousands


class Ready:
    """Where the upstream says that it is ready: `address` is "host:port" or "unix:/path"."""

    def __init__(self, address: str, path: str, statuses: list[int]) -> None:
        self.address = address
        self.path = path
        self.statuses = statuses

    def check(self) -> bool:
        connection = http.client.HTTPConnection("localhost", timeout=PROBE_TIMEOUT)
        try:
            if self.address.startswith("unix:"):
                connection.sock = socket.socket(socket.AF_UNIX)
                connection.sock.settimeout(PROBE_TIMEOUT)
                connection.sock.connect(self.address[5:])
            else:
                host, _, port = self.address.rpartition(":")
                connection.sock = socket.create_connection(
                    (host.strip("[]"), int(port)), PROBE_TIMEOUT
                )
            connection.request("GET", self.path)
            return connection.getresponse().status in self.statuses
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


class Recorder:
    """Owns every child of its process: run it in a process of its own, a subreaper."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        spec: Spec,
        command: Command,
        preload: Preload,
        *,
        ready: Ready,
        say: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._spec = spec
        self._command = command
        self._names = preload.names
        self._likely = preload.likely
        self._ready = ready
        self._timeout = preload.timeout
        self._say = say

    def run(self) -> Plan:
        """Raises `LaunchError`. Leaves no process and no file."""
        listing = self._boot()
        self._say("the upstream has loaded %d modules" % len(listing))
        struck = self._program(listing)
        for number in range(ROUNDS):
            listing = [module for module in listing if module not in struck]
            report = self._trial(listing, struck)
            found = {name: why for name, why in report["struck"].items() if name not in struck}
            missing = set(report.get("missing", ()))
            listing = [module for module in listing if module not in missing]
            text = summary(found)
            self._say("trial %d of %d modules strikes %s" % (number + 1, len(listing), text))
            struck.update(found)
            if not found and not report["hits"]:
                command = {"kind": self._command.kind, "target": self._command.target}
                return Plan(report["identity"], command, self._names, listing, struck)
        raise LaunchError("cannot record: %d trials have not come to an end" % ROUNDS)

    def _trial(self, modules: list[str], struck: dict[str, str]) -> dict[str, Any]:
        zygote = self._zygote()
        trial = {
            "names": self._names,
            "likely": self._likely,
            "blocked": sorted(struck),
            "linger": LINGER,
        }
        zygote.start(self._spec, self._command, modules, self._timeout, trial=trial)
        self._loop.run_until(lambda: zygote.pid is None)
        self._children.sweep()
        if zygote.report is not None:
            return zygote.report
        if zygote.module is None:
            raise LaunchError(zygote.why)
        # It hung or ended the process: that is all there is to know about this module.
        return {"struck": {zygote.module: zygote.why}, "hits": 1}

    def _boot(self) -> list[str]:
        """The modules of a running upstream, in the order in which they began to load."""
        zygote = self._zygote()
        zygote.start(self._spec, self._command, [], self._timeout)
        self._loop.run_until(lambda: zygote.warm or zygote.pid is None)
        if not zygote.warm:
            raise LaunchError(zygote.why)
        scratch = tempfile.mkdtemp(prefix="recording-")
        boot = Boot(self._loop, self._children, zygote)
        try:
            boot.start(self._spec, scratch)
            boot.wait(self._ready, self._timeout)
            modules = boot.modules()
        finally:
            zygote.close("the recording is done")
            boot.end()
            self._children.sweep()
            shutil.rmtree(scratch, ignore_errors=True)
        return [
            module
            for module in modules
            if module != "__main__" and module.partition(".")[0] != PACKAGE
        ]

    def _program(self, listing: list[str]) -> dict[str, str]:
        """The module that is run, which must not be imported before; a package may be."""
        target = self._command.target
        if self._command.kind != "module" or target not in listing:
            return {}
        inside = any(module.startswith(target + ".") for module in listing)
        return {} if inside else {target: "is the program itself"}

    def _zygote(self) -> Zygote:
        return Zygote(
            self._loop,
            self._children,
            emit=lambda _stream, _line: None,
            on_progress=lambda _done, _total: None,
            on_change=lambda: None,
        )


class Boot:
    """One run of the upstream that tells what it has loaded and made."""

    def __init__(self, loop: Loop, children: Children, zygote: Zygote) -> None:
        self._loop = loop
        self._children = children
        self._zygote = zygote
        self._output = Output(loop, lambda _stream, _line: None)
        self._pid: int | None = None
        self._ended: str | None = None
        self._socket: socket.socket | None = None
        self._made: list[str] = []

    def start(self, spec: Spec, scratch: str) -> None:
        """Raises `LaunchError`. `scratch` is its directory for temporary files."""
        ours, theirs = socket.socketpair()
        self._socket = ours
        stdout, stderr = self._output.open()
        spec = _with_env(spec, {"TMPDIR": scratch})
        try:
            self._pid = self._zygote.fork(spec, stdout, stderr, theirs.fileno())
        finally:
            theirs.close()
            os.close(stdout)
            os.close(stderr)
        self._children.watch(self._pid, self._died)

    def wait(self, ready: Ready, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not ready.check():
            if self._ended is not None:
                tail = " | ".join(self._output.excerpt().splitlines()[-TAIL:])
                raise LaunchError("cannot record: the upstream %s: %s" % (self._ended, tail))
            if time.monotonic() > deadline:
                raise LaunchError("cannot record: the upstream was not ready within %g s" % timeout)
            self._loop.run_until(lambda: self._ended, PROBE_INTERVAL)

    def modules(self) -> list[str]:
        """Ask once; what it has made so far is remembered as well."""
        assert self._socket is not None
        data = b""
        self._socket.settimeout(PROBE_TIMEOUT)
        try:
            self._socket.sendall(b"?")
            while not data.endswith(b"\n"):
                chunk = self._socket.recv(65536)
                if not chunk:
                    raise LaunchError("cannot record: the upstream has ended")
                data += chunk
        except OSError as error:
            raise LaunchError("cannot record: the upstream does not answer: %s" % error) from None
        report = json.loads(data)
        self._made = report["made"]
        return [str(name) for name in report["modules"]]

    def end(self) -> None:
        """Kill it, and remove the files and directories that it has made."""
        if self._pid is not None:
            try:
                self.modules()
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


def summary(found: dict[str, str]) -> str:
    """What a trial strikes: causes first, then who imports or needs them."""
    ordered = sorted(
        found.items(), key=lambda item: (item[1].startswith(("imports ", "needs ")), item[0])
    )
    texts = ["%s %s" % item for item in ordered[:SHOWN]]
    if len(ordered) > SHOWN:
        texts.append("%d more" % (len(ordered) - SHOWN))
    return ", ".join(texts) or "nothing"


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
