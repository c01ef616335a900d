"""The launcher's handle of its fork server.

    cold --prepare--> warming --warm--> warm
                        |                 |
                        +--failed, dead, too slow--> cold, for good, with the reason

Everything that can go wrong with preloaded modules ends in "cold": the fork server and whatever
its modules have started are killed, and the reason names the module.
"""

from __future__ import annotations

import array
import json
import os
import select
import signal
import socket
import time

from ..errors import LaunchError
from ..kernel.children import send_signal
from ..kernel.loop import READ
from ..upstream.delivery import base_environment, delivered
from ..upstream.output import Output
from . import birth

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.spec import Base, Spec

ANSWER_LIMIT = 5.0  # seconds for a warm fork server to answer; it takes milliseconds


class Zygote:
    """One fork server, from its start to its end.

    `on_change()` is called when it becomes warm or cold; `progress` is (done, total).
    """

    def __init__(
        self,
        loop: Loop,
        children: Children,
        *,
        emit: Callable[[str, str], None],
        on_progress: Callable[[int, int], None],
        on_change: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._output = Output(loop, emit)
        self._on_progress = on_progress
        self._on_change = on_change
        self._received = b""
        self._socket: socket.socket | None = None
        self._timer: object = None
        self.module: str | None = None
        self._modules: list[str] = []
        self._base: Base | None = None
        self._environment: dict[bytes, bytes] = {}
        self._command: Command | None = None
        self.pid: int | None = None
        self.warm = False
        self.was_warm = False
        self.why = "nothing is preloaded"
        self.notes: list[str] = []
        self.stale = False  # the plan was recorded for something else
        self.report: dict[str, Any] | None = None
        self._extra: dict[str, Any] = {}
        self.seconds = 0.0

    def start(
        self,
        base: Base,
        command: Command,
        modules: list[str],
        timeout: float,
        **extra: Any,
    ) -> None:
        """Begin to preload; at most `timeout` seconds. Raises `LaunchError`.

        `extra` goes to the fork server: `identity` of a plan, or `trial` (see there).
        """
        self._base, self._command, self._modules, self._extra = base, command, modules, extra
        self._environment = base_environment(base)
        ours, theirs = socket.socketpair()
        stdout, stderr = self._output.open()
        try:
            self.pid = birth.run(
                command, base.cwd, self._environment, theirs.fileno(), stdout, stderr
            )
        except OSError as error:
            raise LaunchError("cannot start the fork server: %s" % error.strerror) from None
        finally:
            for fd in (theirs.detach(), stdout, stderr):
                os.close(fd)
        self._socket = ours
        self._children.watch(self.pid, self._died)
        self.why = "the fork server is still importing"
        ours.sendall(birth.boot_code())
        ours.setblocking(False)
        self._loop.watch(ours.fileno(), READ, self._readable)
        self._timer = self._loop.later(timeout, lambda: self._too_slow(timeout))

    @property
    def modules(self) -> int:
        """How many were asked for."""
        return len(self._modules)

    def refusal(self, spec: Spec) -> str | None:
        """Why this start cannot be warm; None when it can."""
        if not self.warm or self._base is None:
            return self.why
        if (spec.argv, spec.cwd) != (self._base.argv, self._base.cwd):
            return "another command or directory than was prepared"
        if base_environment(spec) != self._environment:
            return "another environment than was prepared"
        try:
            answer = self._ask(
                {
                    "op": "check",
                    "delivered": delivered(spec),
                    "files": [os.path.join(spec.cwd or "", item.path) for item in spec.files],
                    "run_dir": spec.run_dir,
                }
            )
        except LaunchError as error:
            return str(error)
        why = answer.get("why")
        return str(why) if why else None

    def fork(self, spec: Spec, stdout: int, stderr: int, report: int | None = None) -> int:
        """Fork the upstream; returns its pid. Raises `LaunchError`.

        `report` is a socket through which it tells what it loads, when it is being recorded.
        """
        names = delivered(spec)
        assert self._command is not None
        answer = self._ask(
            {
                "op": "fork",
                "env": spec.env,
                "unset": [name for name in names if name not in spec.env],
                "title": self._command.argv,
                "name": self._command.name,
                "report": report is not None,
            },
            [stdout, stderr] + ([] if report is None else [report]),
        )
        if not isinstance(answer.get("pid"), int):
            raise LaunchError("cannot fork: %s" % answer.get("why"))
        return int(answer["pid"])

    def close(self, why: str) -> None:
        """End the fork server with everything that its modules have started; cold from now on."""
        self._loop.cancel(self._timer)
        if self._socket is not None:
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._socket = None
        if self.pid is not None:
            send_signal(-self.pid, signal.SIGKILL)
            send_signal(self.pid, signal.SIGKILL)
        changed = self.warm or self.why != why
        self.warm, self.why = False, why
        if changed:
            self._on_change()

    def _readable(self, _events: int) -> None:
        for message in self._read():
            self._take(message)

    def _read(self) -> list[dict[str, Any]]:
        """What has arrived; the end of the stream is left to `_died`."""
        assert self._socket is not None
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            data = b""
        if not data:
            self._loop.unwatch(self._socket.fileno())
            return []
        *lines, self._received = (self._received + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _take(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "hello":
            self._configure()
        elif event == "importing":
            self.module = str(message["module"])
            self._on_progress(int(message["done"]), len(self._modules))
        elif event == "note":
            self.notes.append(str(message["text"]))
        elif event == "report":
            self.report = message
        elif event == "failed":
            self.stale = bool(message.get("stale"))
            self.close("cannot preload: %s" % message["why"])
        elif event == "warm":
            self._loop.cancel(self._timer)
            self.warm, self.was_warm, self.why = True, True, ""
            self.seconds = float(message["seconds"])
            self._on_change()

    def _configure(self) -> None:
        assert self._command is not None
        config = {"command": self._command.to_json(), "modules": self._modules}
        self._send(dict(config, **self._extra), [])

    def _send(self, message: dict[str, Any], descriptors: list[int]) -> None:
        assert self._socket is not None
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))]
        self._socket.settimeout(ANSWER_LIMIT)
        try:
            sent = self._socket.sendmsg([data], rights if descriptors else [])
            self._socket.sendall(data[sent:])
        except OSError as error:
            raise LaunchError("cannot reach the fork server: %s" % error) from None
        finally:
            self._socket.setblocking(False)

    def _ask(self, message: dict[str, Any], descriptors: list[int] | None = None) -> dict[str, Any]:
        """One question, one answer, without the event loop. Raises `LaunchError`."""
        if self._socket is None:
            raise LaunchError(self.why)
        deadline = time.monotonic() + ANSWER_LIMIT
        try:
            self._send(message, descriptors or [])
            poll = select.poll()
            poll.register(self._socket.fileno(), select.POLLIN)
            while True:
                left = deadline - time.monotonic()
                if left <= 0 or not poll.poll(left * 1000):
                    raise LaunchError("the fork server does not answer")  # noqa: TRY301
                for answer in self._read():
                    return answer
                if poll.poll(0) and not self._socket.recv(1, socket.MSG_PEEK):
                    raise LaunchError("the fork server has died")  # noqa: TRY301
        except (LaunchError, OSError) as error:
            self.close(str(error))
            raise LaunchError(str(error)) from None

    def _too_slow(self, timeout: float) -> None:
        what = "module %s was not imported" % self.module if self.module else "it did not start"
        self.close("cannot preload: %s within %g s" % (what, timeout))

    def _died(self, _code: int, reason: str) -> None:
        pid, self.pid = self.pid, None
        self._output.drain()
        self._output.close()
        if pid is not None:
            send_signal(-pid, signal.SIGKILL)  # what its modules started; it is a zombie yet
        if self._socket is not None:
            for message in self._read():
                self._take(message)
        if self._socket is not None:
            during = " while importing %s" % self.module if self.module and not self.warm else ""
            self.close("the fork server %s%s" % (reason, during))
