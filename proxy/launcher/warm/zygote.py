"""The launcher's handle of its fork server.

    cold --start--> warming --> a child waits: warm
                       |            |
                       +------------+--failed, dead, too slow--> cold, for good, with the reason

Everything that can go wrong with preloaded modules ends in "cold": the fork server, its child in
waiting and whatever its modules have started are killed, and the reason names the module.
"""

from __future__ import annotations

import os
import signal
import socket

from ..errors import LaunchError, cause
from ..kernel.children import send_signal
from ..upstream.delivery import base_environment, delivered
from ..upstream.output import Output
from . import birth
from .channel import ENDED, Channel, serve
from .cradle import Cradle
from .waiting import ANSWER_LIMIT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.spec import Base, Spec
    from .waiting import Waiting

    Kept = tuple[dict[str, Any], list[int]]  # its state, our ends of its socket and its output

LAST_WORDS = 1.0  # seconds for the news of its end to follow the end of its socket


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
        self._channel: Channel | None = None
        self._timer: object = None  # until it is warm
        self._limit = 0.0
        self._end_timer: object = None  # for its last words
        self._cradle = Cradle(loop, children, on_first=self._ready, on_barren=self.close)
        self._modules: list[str] = []
        self._base: Base | None = None
        self._environment: dict[bytes, bytes] = {}
        self._command: Command | None = None
        self._extra: dict[str, Any] = {}
        self.module: str | None = None
        self.pid: int | None = None
        self.warm = False
        self.imported = False  # what goes wrong later is not the modules' fault
        self.why = "nothing is preloaded"
        self._parted = False
        self.once: str | None = None  # why it may serve one start only
        self.stale = False  # the plan was recorded for something else
        self.report: dict[str, Any] | None = None
        self.seconds = 0.0

    def start(
        self,
        base: Base,
        command: Command,
        modules: list[str],
        timeout: float,
        **extra: Any,
    ) -> None:
        """Begin to preload; at most `timeout` seconds (in a trial, for each module of it).

        `extra` goes to the fork server: `identity` of a plan, or `trial` (see there). Raises
        `LaunchError`.
        """
        self._base, self._command, self._modules, self._extra = base, command, modules, extra
        self._environment = base_environment(base)
        self.why = "the fork server is still importing"
        try:
            self._spawn(base, command)
        except OSError as error:
            self._output.close()
            if self._channel is not None:
                self._channel.close()
            raise LaunchError("cannot start the fork server: %s" % cause(error)) from None
        self._limit = timeout
        self._set_timer()

    def _set_timer(self) -> None:
        self._loop.cancel(self._timer)
        self._timer = self._loop.later(self._limit, lambda: self._too_slow(self._limit))

    def _spawn(self, base: Base, command: Command) -> None:
        ends = list(self._output.open())
        try:
            self._channel = channel = Channel(self._loop, self._take, self._lost)
            ends.append(channel.other.detach())
            self.pid = birth.run(command, base.cwd, self._environment, ends[2], *ends[:2])
        finally:
            for fd in ends:
                os.close(fd)
        self._children.watch(self.pid, self._died)
        channel.send_bytes(birth.boot_code())

    @property
    def modules(self) -> int:
        """How many were asked for."""
        return len(self._modules)

    def fork(
        self,
        spec: Spec,
        stdout: int,
        stderr: int,
        *,
        report: int | None = None,
        names: dict[str, list[str]] | None = None,
    ) -> int:
        """Let a child become the upstream; returns its pid. Raises `LaunchError` with the reason.

        `report` is a socket through which it tells what it loads, when it is being recorded, and
        what is done with some `names` (see `fork.recorded.reporter`).
        """
        child = self._fit(spec)
        assert self._command is not None
        set_or_removed = delivered(spec)
        judged = report is None  # what a recording delivers is its own: nothing is preloaded then
        orders = {
            "delivered": set_or_removed if judged else [],
            "files": [os.path.join(spec.cwd or "", item.path) for item in spec.files if judged],
            "run_dir": spec.run_dir,
            "env": spec.env,
            "unset": [name for name in set_or_removed if name not in spec.env],
            "title": self._command.argv,
            "name": self._command.name,
            "report": None if report is None else names or {},
        }
        self._cradle.given()
        return child.become(orders, [stdout, stderr] + ([] if report is None else [report]))

    def part(self) -> Kept:
        """Get ready to be another launcher's, which is to `adopt` what this returns.

        Our end of everything is closed with this process. Raises `LaunchError`.
        """
        self._cradle.close("it goes with the fork server's launcher")
        channel = self._channel
        if channel is not None:
            channel.send({"op": "part"})
            serve([channel], lambda: self._parted, ANSWER_LIMIT)
        if channel is None or not self._parted or self.pid is None or len(self._output.ends) != 2:
            raise LaunchError("cannot part from the fork server: %s" % self.why)
        state = {"pid": self.pid, "seconds": self.seconds}
        return state, [channel.fileno(), *self._output.ends]

    def adopt(
        self,
        base: Base,
        command: Command,
        modules: list[str],
        timeout: float,
        kept: Kept,
    ) -> None:
        """Instead of `start`: go on with one that has imported these, and is our child by now."""
        self._base, self._command, self._modules = base, command, modules
        self._environment = base_environment(base)
        state, ends = kept
        self._channel = Channel(self._loop, self._take, self._lost, socket.socket(fileno=ends[0]))
        self._output.adopt(*ends[1:])
        self.pid, self.seconds, self.imported = state["pid"], state["seconds"], True
        self._children.watch(state["pid"], self._died)
        self._channel.send({"op": "adopt", "launcher": os.getpid()})
        self._limit = timeout
        self._set_timer()

    def close(self, why: str) -> None:
        """End the fork server with everything that its modules have started; cold from now on."""
        self._loop.cancel(self._timer)
        self._loop.cancel(self._end_timer)
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        self._cradle.close(why)
        if self.pid is not None:
            send_signal(-self.pid, signal.SIGKILL)
            send_signal(self.pid, signal.SIGKILL)
        changed = self.warm or self.why != why
        self.warm, self.why = False, why
        if changed:
            self._on_change()

    def _fit(self, spec: Spec) -> Waiting:
        """The child for this start, made if there is none. Raises `LaunchError`."""
        if not self.warm or self._base is None or self._channel is None:
            raise LaunchError(self.why)
        if (spec.argv, spec.cwd) != (self._base.argv, self._base.cwd):
            raise LaunchError("another command or directory than was prepared")
        if base_environment(spec) != self._environment:
            raise LaunchError("another environment than was prepared")
        return self._cradle.child()

    def _settled(self) -> None:
        if self._channel is not None:
            self._cradle.open(self._channel)

    def _ready(self) -> None:
        self._loop.cancel(self._timer)
        self.warm, self.why = True, ""
        self._on_change()

    # The fork server's own words

    def _take(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event == "hello":
            self._configure()
        elif event == "importing":
            self.module = str(message.get("module"))
            if "trial" in self._extra:  # whoever hangs is to be found, not who happens to be last
                self._set_timer()
            self._on_progress(int(_number(message.get("done"))), len(self._modules))
        elif event == "report":
            self.report = message
        elif event == "failed":
            self.stale = bool(message.get("stale"))
            self.close("cannot preload: %s" % message.get("why"))
        elif event == "warm":
            self.imported = True
            self.once = message.get("once")
            self.seconds = _number(message.get("seconds"))
            self._settled()
        elif event == "adopted":
            self._settled()
        elif event == "parted":
            self._parted = True
        elif event == "unborn":
            self._cradle.fail("cannot fork: %s" % message.get("why"))

    def _configure(self) -> None:
        assert self._command is not None
        assert self._channel is not None
        config = {"command": self._command.to_json(), "modules": self._modules}
        self._channel.send(dict(config, **self._extra))

    def _too_slow(self, timeout: float) -> None:
        what = "module %s was not imported" % self.module if self.module else "it did not start"
        if self.imported:
            what = "no child of it was there"
        self.close("cannot preload: %s within %g s" % (what, timeout))

    def _lost(self, how: str) -> None:
        """Its end says more than that of its socket, and follows it when it has ended."""
        if how != ENDED or self.pid is None:
            self._end(how)
        else:
            self._loop.cancel(self._end_timer)
            self._end_timer = self._loop.later(LAST_WORDS, lambda: self._end(how))

    def _died(self, _code: int, reason: str) -> None:
        pid, self.pid = self.pid, None
        if self._channel is not None:
            self._channel.drain()
        self._output.drain()
        self._output.close()
        if pid is not None:
            send_signal(-pid, signal.SIGKILL)  # what its modules started; it is a zombie yet
        self._end(reason)

    def _end(self, how: str) -> None:
        if self._channel is not None:
            during = (
                " while importing %s" % self.module if self.module and not self.imported else ""
            )
            self.close("the fork server %s%s" % (how, during))


def _number(value: object) -> float:
    return value if isinstance(value, (int, float)) else 0
