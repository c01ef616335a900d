"""Starts and stops the one upstream.

Seam for warm starts: `Upstream.forkserver` is None, or an object with

    fork(spec, stdout, stderr) -> int  pid of the upstream

`fork` returns once the upstream is a child of the launcher, leader of a session and group of its
own, its stdout and stderr the given descriptors (which stay the caller's). It must not run the
event loop: between its return and `Children.watch` here nobody may reap. It raises `LaunchError`
when the start cannot be warm; the upstream is started cold then, with that text as the reason, once
whatever `fork` has left behind was swept away. The files of `spec` are written before it is
called. The fork server's own processes must be under `Children.watch`, which spares them from
`Children.sweep`, and must hold no copy of the pipes or of the controller's descriptor.
"""

from __future__ import annotations

import os
import signal
import time

from ..errors import LaunchError
from ..kernel.children import POLL, group_lives, send_signal
from ..kernel.oom import OutOfMemory
from .child import run
from .delivery import ensure_fits
from .files import Files
from .output import Output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.spec import Base, Spec
    from ..session.wire import Session

    class ForkServer(Protocol):
        def fork(self, spec: Spec, stdout: int, stderr: int) -> int: ...


KILL_LIMIT = 5.0  # seconds for a killed leader to go; longer means stuck in the kernel


class Upstream:
    """At most one run at a time; `pid` is None when none lives.

    `left_over` is true while something of a run that ended by itself may live on.
    """

    def __init__(self, loop: Loop, children: Children, session: Session) -> None:
        self._loop = loop
        self._children = children
        self._session = session
        self._files = Files()
        self._output = Output(loop, self._emit, self._emit_piece)
        self._memory = OutOfMemory()
        self._stopping: float | None = None  # when the grace of the running stop ends
        self.forkserver: ForkServer | None = None
        self.cold_because = "nothing is preloaded"
        self.pid: int | None = None
        self.left_over = False
        self.stop_signal = int(signal.SIGTERM)
        session.on_drained = self._output.resume

    def start(self, spec: Spec) -> dict[str, Any]:
        """All or nothing; returns what the controller is answered. Raises `LaunchError`."""
        if self.pid is not None:
            raise LaunchError("process %d is running" % self.pid)
        self.clear()
        self._memory.has_killed()  # what came before is not this one's
        ensure_fits(spec.argv, spec.environment(os.environb))
        self._files.write(spec.located_files(os.environb), spec.run_dir, spec.cwd)
        try:
            self.pid, why = self._run(spec)
        except LaunchError as error:
            self._output.close()
            self._files.undo_after(error)
            raise
        self._children.watch(self.pid, self._died)
        return {"pid": self.pid, "kind": "cold" if why else "warm", "why": why}

    def recover(self, base: Base) -> None:
        """Undo what a launcher that was killed has left. Raises `LaunchError`."""
        if base.run_dir is not None:
            self._files.recover(base.run_dir, base.cwd)

    def stop(self, grace: float) -> None:
        """`stop_signal` to the group, `grace` seconds, KILL to it and to every straggler, undo.

        Raises `LaunchError` naming what could not be ended or undone.
        """
        if self.pid is not None:
            self._end_group(self.pid, grace)
        self.clear()

    def signal(self, number: int) -> None:
        """To its leader alone, as one that is sent to a container is to the first process."""
        if self.pid is not None:
            send_signal(self.pid, number)

    def hurry(self, grace: float) -> None:
        """Let the running stop, if any, wait at most `grace` seconds from this moment."""
        if self._stopping is not None:
            self._stopping = min(self._stopping, time.monotonic() + grace)

    def clear(self) -> None:
        """Remove every trace of the last run: processes first, then files."""
        self.sweep()
        self._files.undo()

    def sweep(self) -> None:
        self.left_over = False
        self._children.sweep()
        self._output.close()

    def _run(self, spec: Spec) -> tuple[int, str | None]:
        """Start warm, or else cold: the pid, and why it was not warm."""
        self._output = Output(self._loop, self._emit, self._emit_piece)
        self._session.on_drained = self._output.resume
        stdout, stderr = self._output.open()
        try:
            why = self.cold_because
            if self.forkserver is not None:
                try:
                    return self.forkserver.fork(spec, stdout, stderr), None
                except LaunchError as error:
                    why = str(error)
                self._children.sweep()  # a child that was given its orders, and is not trusted
            env = spec.environment(os.environb)
            return run(spec.argv, spec.cwd, env, stdout, stderr), why
        finally:
            os.close(stdout)
            os.close(stderr)

    def _end_group(self, group: int, grace: float) -> None:
        self._stopping = time.monotonic() + grace
        self._output.resume()  # a writer that waits for us could not end in good order
        send_signal(-group, self.stop_signal)
        send_signal(-group, signal.SIGCONT)  # who is stopped (a debugger, a freezer) hears it too
        # Members whose parent lives in another session end without a signal to us, so look again.
        while group_lives(group) and time.monotonic() < self._stopping:
            self._loop.turn(POLL)
        if self.pid is not None:  # else its number may be another's: `sweep` knows them by descent
            send_signal(-group, signal.SIGKILL)
        ended = self._loop.run_until(lambda: self.pid is None, KILL_LIMIT)
        self._stopping = None
        if not ended:
            raise LaunchError("process %d does not end after SIGKILL" % group)

    def _died(self, code: int, reason: str) -> None:
        """The leader has ended. It is still a zombie here, so its group's number is its own."""
        pid, self.pid = self.pid, None
        if self._stopping is None and pid is not None:
            # By itself: nothing of this run may be alive in the next one.
            send_signal(-pid, signal.SIGKILL)
            self.left_over = True
            if code == 128 + signal.SIGKILL and self._memory.has_killed():
                reason += ", out of memory"
        self._output.drain()
        self._session.send(
            {
                "event": "exit",
                "pid": pid,
                "code": code,
                "reason": reason,
                "tail": self._output.excerpt(),
            }
        )

    def _emit(self, stream: str, line: str) -> None:
        self._say({"event": "output", "stream": stream, "line": line})

    def _emit_piece(self, stream: str, text: str) -> None:
        self._say({"event": "output", "stream": stream, "line": text, "more": True})

    def _say(self, message: dict[str, Any]) -> None:
        if not self._session.congested:
            self._session.send(message)
        elif self._stopping is None:
            self._session.send(message)
            self._output.pause()
