"""A recording in the background: a fork of the launcher that records, and its result.

The fork is a subreaper of its own, so that the recording's many children are never ours while it
lives; whatever it leaves behind when it is killed comes to us, and `Children.sweep` ends it.
"""

from __future__ import annotations

import json
import os
import signal

from ..errors import LaunchError
from ..kernel.children import Children, send_signal
from ..kernel.loop import READ, Loop
from ..kernel.prctl import PR_SET_CHILD_SUBREAPER, prctl
from ..upstream.child import close_from_3, default_signals, die_with
from .planfile import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, NoReturn

    from ..session.command import Command
    from ..session.preload import Preload
    from ..session.spec import Spec
    from .planfile import Plan


class Job:
    """What to record, and by which of the controller's terms."""

    __slots__ = ("command", "preload", "spec")

    def __init__(self, spec: Spec, command: Command, preload: Preload) -> None:
        self.spec = spec
        self.command = command
        self.preload = preload


class Recording:
    """`on_text(line)` is told how it goes; `on_end(plan, why)` once, with a plan or the reason."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        *,
        on_text: Callable[[str], None],
        on_end: Callable[[Plan | None, str], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._on_text = on_text
        self._on_end = on_end
        self._pid: int | None = None
        self._pipe = -1
        self._received = b""
        self._plan: Plan | None = None
        self._why = "the recording has died"

    def start(self, job: Job) -> None:
        read, write = os.pipe()
        launcher = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _record(write, launcher, job)
        except OSError as error:
            os.close(read)
            raise LaunchError("cannot record: %s" % error.strerror) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(write)
        self._pid, self._pipe = pid, read
        os.set_blocking(read, False)
        self._children.watch(pid, self._died)
        self._loop.watch(read, READ, self._readable)

    def cancel(self, why: str) -> None:
        """End it; `on_end` is told `why` when it is gone."""
        self._why = why
        self._plan = None
        if self._pid is not None:
            send_signal(self._pid, signal.SIGKILL)

    def _readable(self, _events: int) -> None:
        self._read()

    def _read(self) -> bool:
        try:
            data = os.read(self._pipe, 65536)
        except BlockingIOError:
            return False
        if not data:
            self._loop.unwatch(self._pipe)
            return False
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return True

    def _take(self, message: dict[str, Any]) -> None:
        if "text" in message:
            self._on_text(message["text"])
        elif "plan" in message:
            self._plan = parse(message["plan"], "of the recording")
        else:
            self._why = message["why"]

    def _died(self, _code: int, reason: str) -> None:
        self._pid = None
        cancelled = self._plan is None and reason == "was killed by SIGKILL"
        while self._read():
            pass
        self._loop.unwatch(self._pipe)
        os.close(self._pipe)
        self._on_end(None if cancelled else self._plan, "" if self._plan else self._why)


def _record(pipe: int, launcher: int, job: Job) -> NoReturn:
    """In the forked child: record, say how it went, end."""
    try:
        os.setsid()
        die_with(launcher)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.dup2(pipe, 3)
        close_from_3(keep=3)
        default_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it: an error, not the end
        _write(_outcome(job))
    finally:
        os._exit(0)


def _outcome(job: Job) -> dict[str, Any]:
    from .ready import Ready  # noqa: PLC0415  the launcher stays small without them
    from .record import Recorder  # noqa: PLC0415

    loop = Loop()
    ready = job.preload.ready or {}
    recorder = Recorder(
        loop,
        Children(loop),
        job.spec,
        job.command,
        job.preload,
        ready=Ready(**ready),
        say=lambda text: _write({"text": text}),
    )
    try:
        return {"plan": recorder.run().to_json()}
    except LaunchError as error:
        return {"why": str(error)}
    except Exception as error:  # noqa: BLE001  the launcher is told, whatever it is
        return {"why": "cannot record: internal error %s" % type(error).__name__}


def _write(message: dict[str, Any]) -> None:
    data = json.dumps(message).encode() + b"\n"
    while data:
        data = data[os.write(3, data) :]
