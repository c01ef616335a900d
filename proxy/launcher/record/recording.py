"""A recording in the background: a fork of the launcher that records, and its result.

The fork is a subreaper of its own, so that the recording's many children are never ours while it
lives; whatever it leaves behind when it is killed comes to us, and `Children.sweep` ends it.
"""

from __future__ import annotations

import array
import json
import os
import signal
import socket

from ..errors import LaunchError
from ..kernel.children import Children, send_signal
from ..kernel.loop import READ, Loop
from ..kernel.prctl import PR_SET_CHILD_SUBREAPER, die_with, prctl
from ..upstream.child import close_from_3, default_signals
from .planfile import parse

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Iterable, NoReturn

    from ..session.command import Command
    from ..session.preload import Preload
    from ..session.spec import Spec
    from ..warm.zygote import Kept
    from .planfile import Plan

ENDS = 3  # descriptors that a fork server comes with


class Job:
    """What to record, by which of the controller's terms, and whether to `keep` the last trial."""

    __slots__ = ("command", "keep", "preload", "spec")

    def __init__(self, spec: Spec, command: Command, preload: Preload, *, keep: bool) -> None:
        self.keep = keep
        self.spec = spec
        self.command = command
        self.preload = preload


class Recording:
    """`on_text(line)` is told how it goes; `on_end(plan, why, kept)` once.

    That is told a plan or the reason, and of the last trial, which is a fork server (`Zygote.part`)
    where the job has asked for one. It is a child of ours by then.
    """

    def __init__(
        self,
        loop: Loop,
        children: Children,
        *,
        on_text: Callable[[str], None],
        on_end: Callable[[Plan | None, str, Kept | None], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._on_text = on_text
        self._on_end = on_end
        self._pid: int | None = None
        self._socket: socket.socket | None = None
        self._ends: list[int] = []
        self._kept: dict[str, Any] | None = None
        self._received = b""
        self._plan: Plan | None = None
        self._why = "the recording has died"

    def start(self, job: Job) -> None:
        ours, theirs = socket.socketpair()
        launcher = os.getpid()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid = os.fork()
            if pid == 0:
                _record(theirs.fileno(), launcher, job)
        except OSError as error:
            ours.close()
            raise LaunchError("cannot record: %s" % error.strerror) from None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            theirs.close()
        self._pid, self._socket = pid, ours
        ours.setblocking(False)
        self._children.watch(pid, self._died)
        self._loop.watch(ours.fileno(), READ, self._readable)

    def cancel(self, why: str) -> None:
        """End it; `on_end` is told `why` when it is gone."""
        self._why = why
        self._plan = None
        if self._pid is not None:
            send_signal(self._pid, signal.SIGKILL)

    def _readable(self, _events: int) -> None:
        self._read()

    def _read(self) -> bool:
        assert self._socket is not None
        room = socket.CMSG_SPACE(ENDS * array.array("i").itemsize)
        try:
            data, rights, _, _ = self._socket.recvmsg(65536, room, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return False
        if not data:
            self._loop.unwatch(self._socket.fileno())
            return False
        for _, _, descriptors in rights:
            self._ends += array.array("i", descriptors)
        *lines, self._received = (self._received + data).split(b"\n")
        for line in lines:
            self._take(json.loads(line))
        return True

    def _take(self, message: dict[str, Any]) -> None:
        if "text" in message:
            self._on_text(message["text"])
        elif "plan" in message:
            self._plan = parse(message["plan"], "of the recording")
            self._kept = message["kept"]
        else:
            self._why = message["why"]

    def _died(self, _code: int, reason: str) -> None:
        self._pid = None
        cancelled = self._plan is None and reason == "was killed by SIGKILL"
        while self._read():
            pass
        assert self._socket is not None
        self._loop.unwatch(self._socket.fileno())
        self._socket.close()
        plan = None if cancelled else self._plan
        kept = (self._kept, self._ends) if plan and self._kept and len(self._ends) == ENDS else None
        if kept is None:
            for fd in self._ends:
                os.close(fd)
        self._on_end(plan, "" if plan else self._why, kept)


def _record(end: int, launcher: int, job: Job) -> NoReturn:
    """In the forked child: record, say how it went, end."""
    try:
        os.setsid()
        die_with(launcher)
        prctl(PR_SET_CHILD_SUBREAPER, 1)
        os.dup2(end, 3)
        close_from_3(keep=3)
        default_signals()
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it: an error, not the end
        _write(*_outcome(job))
    finally:
        os._exit(0)


def _outcome(job: Job) -> tuple[dict[str, Any], list[int]]:
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
        keep=job.keep,
        say=lambda text: _write({"text": text}),
    )
    try:
        plan = recorder.run()
        kept, ends = recorder.kept or (None, [])
        return {"plan": plan.to_json(), "kept": kept}, ends
    except LaunchError as error:
        return {"why": str(error)}, []
    except Exception as error:  # noqa: BLE001  the launcher is told, whatever it is
        return {"why": "cannot record: internal error %s" % type(error).__name__}, []


def _write(message: dict[str, Any], descriptors: Iterable[int] = ()) -> None:
    data = json.dumps(message).encode() + b"\n"
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    with socket.socket(fileno=os.dup(3)) as end:
        rest = data[end.sendmsg([data], [rights] if rights[2] else []) :]
        end.sendall(rest)
