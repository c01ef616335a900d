"""The launcher's operations, one at a time, in the order in which the controller sent them."""

from __future__ import annotations

import math
import os
import signal
import stat
import sys
from collections import deque

from .errors import LaunchError, cause
from .kernel.children import Children
from .kernel.loop import Loop
from .kernel.prctl import PR_SET_CHILD_SUBREAPER, PR_SET_DUMPABLE, prctl
from .session.spec import Base, Spec, grace, signal_number
from .session.wire import VERSION, Session
from .upstream.process import Upstream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .warmth import Warmth

GRACE = 10.0  # seconds from TERM to KILL when the controller has not said otherwise
FLUSH_LIMIT = 1.0  # seconds for the last messages to leave
USAGE = "usage: launcher --fd N (a connected socket) | --socket PATH (where to listen)"


class Launcher:
    def __init__(self, loop: Loop, fd: int) -> None:
        self._loop = loop
        self._queue: deque[dict[str, Any]] = deque()
        self._grace = GRACE
        self._told_to_end = False
        self._operations = {
            "prepare": self._prepare,
            "hasten": self._hasten,
            "find": self._find,
            "record": self._record,
            "start": self._start,
            "given": self._given,
            "stop": self._stop,
            "renew": self._renew,
            "signal": self._signal,
        }
        self._session = Session(loop, fd, self._received)
        children = Children(loop)
        self._upstream = Upstream(loop, children, self._session)
        self._children = children
        self._warmth: Warmth | None = None
        self._names: list[str] = []  # of the variables that the upstream was started with
        self._delivered: dict[str, str] = {}  # those among them that the start has set
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.on_signal(number, self._end)

    def serve(self) -> None:
        """Work until the controller is gone or a signal says so; nothing is left behind."""
        self._session.send(
            {
                "event": "hello",
                "version": VERSION,
                "pid": os.getpid(),
                "python": "%d.%d.%d" % sys.version_info[:3],
                "executable": sys.executable,
                "running": None,
            }
        )
        while not self._ending():
            if self._upstream.left_over:
                _report(self._upstream.sweep)
            elif self._queue:
                self._session.send(self._answer(self._queue.popleft()))
            else:
                self._loop.run_until(
                    lambda: self._queue or self._upstream.left_over or self._ending()
                )
        _report(lambda: self._upstream.stop(self._grace))
        if self._warmth is not None:
            self._warmth.close()
        self._loop.run_until(lambda: self._session.flushed, FLUSH_LIMIT)

    def _ending(self) -> bool:
        return self._told_to_end or self._session.gone

    def _end(self) -> None:
        if self._ending():
            self._upstream.hurry(0)  # told twice: now
        self._told_to_end = True

    def _received(self, message: dict[str, Any]) -> None:
        self._queue.append(message)
        self._upstream.hurry(self._shortest(math.inf))

    def _shortest(self, seconds: float) -> float:
        """A stop may be shortened, and only shortened, by later ones: they wait in the queue."""
        for message in self._queue:
            if message.get("op") == "stop":
                try:
                    seconds = min(seconds, grace(message, self._grace))
                except LaunchError:
                    pass  # answered in its turn
        return seconds

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        number = message.get("id")
        op = message.get("op")
        try:
            return dict(self._carry_out(message), id=number, ok=True)
        except LaunchError as error:
            text = str(error)
        except Exception as error:  # noqa: BLE001  the controller is told, the launcher lives on
            text = "internal error %s in %s" % (type(error).__name__, _place(error))
        if not text.startswith("cannot ") and op != "given":
            known = isinstance(op, str) and op in self._operations
            text = "cannot %s: %s" % (op if known else "serve a command", text)
        return {"id": number if _is_number(number) else None, "ok": False, "error": text}

    def _carry_out(self, message: dict[str, Any]) -> dict[str, Any]:
        op = message.get("op")
        if not _is_number(message.get("id")):
            raise LaunchError("id must be a number")
        if message.get("version", VERSION) != VERSION:
            raise LaunchError("the version spoken here is %d" % VERSION)
        if not isinstance(op, str) or op not in self._operations:
            raise LaunchError("unknown op")
        return self._operations[op](message)

    def _prepare(self, message: dict[str, Any]) -> dict[str, Any]:
        base = Base(message)
        self._grace = grace(message, self._grace)
        self._upstream.stop_signal = signal_number(message, signal.SIGTERM)
        _report(lambda: self._upstream.recover(base))
        if message.get("preload") is not None:
            self._upstream.forkserver = self._warm()
            self._warm().prepare(message)
            if self._upstream.pid is not None:  # of a controller that has gone
                self._warm().busy({})
        return {}

    def _hasten(self, _message: dict[str, Any]) -> dict[str, Any]:
        if self._warmth is not None:
            self._warmth.hasten()
        return {}

    def _find(self, message: dict[str, Any]) -> dict[str, Any]:
        return {"found": self._warm().find(message)}

    def _record(self, message: dict[str, Any]) -> dict[str, Any]:
        self._warm().record(message)
        return {}

    def _warm(self) -> Warmth:
        if self._warmth is None:
            from .warmth import Warmth  # noqa: PLC0415  a launcher that never warms stays small

            self._warmth = Warmth(self._loop, self._children, self._session.send)
        return self._warmth

    def _start(self, message: dict[str, Any]) -> dict[str, Any]:
        spec = Spec(message)
        if not message.get("key"):  # else it is dormant, and nobody's until it is given away
            self._busy(message)
        answer = self._upstream.start(spec)
        self._names = spec.names(os.environb)
        self._delivered = spec.env
        return answer

    def _busy(self, message: dict[str, Any]) -> None:
        if self._warmth is not None:
            hidden = ("id", "op")
            self._warmth.busy({key: message[key] for key in message if key not in hidden})

    def _given(self, message: dict[str, Any]) -> dict[str, Any]:
        """The running upstream is about to get by an init of its own what this start would give it.

        Raises `LaunchError` where an environment that is changed from within is not the same.
        """
        from .audit.policy import always_cold  # noqa: PLC0415  as for `Warmth`

        spec = Spec(message)
        for name in sorted(spec.env):
            if spec.env[name] != self._delivered.get(name) and always_cold(name):
                raise LaunchError("%s acts before Python code runs" % name)
        left = [name for name in self._names if name not in spec.env and spec.removes(name)]
        if left:
            raise LaunchError("%s would have to be removed from its environment" % left[0])
        if self._upstream.pid is None:
            raise LaunchError("cannot give: nothing is running")
        self._busy(message)
        return {"pid": self._upstream.pid}

    def _stop(self, message: dict[str, Any]) -> dict[str, Any]:
        self._upstream.stop(self._shortest(grace(message, self._grace)))
        if self._warmth is not None:
            self._warmth.idle()
        return {}

    def _signal(self, message: dict[str, Any]) -> dict[str, Any]:
        """Pass a signal on to the upstream, if one is running."""
        self._upstream.signal(signal_number(message, 0))
        return {}

    def _renew(self, _message: dict[str, Any]) -> dict[str, Any]:
        """The user has gone for good: nothing that was warm in that time serves another."""
        self._upstream.stop(0)
        if self._warmth is None:
            return {"warming": False}
        self._warmth.idle()
        return {"warming": self._warmth.renew()}


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _place(error: BaseException) -> str:
    """Module and line of a fault of ours; a traceback could quote values."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return "an unknown place"
    return "%s:%d" % (os.path.basename(trace.tb_frame.f_code.co_filename), trace.tb_lineno)


def _report(action: Any) -> None:
    """Do what nobody awaits an answer of; say on stderr what failed."""
    try:
        action()
    except LaunchError as error:
        _say(str(error))


def _say(text: str) -> None:
    try:
        os.write(2, ("launcher: %s\n" % text).encode("utf-8", "backslashreplace"))
    except OSError:
        pass  # nobody listens any more


def _open_standard_descriptors() -> None:
    """Make 0, 1 and 2 exist, so that no pipe of ours gets such a number."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)


def main(arguments: list[str]) -> int:
    """Serve the controller of `--fd N` or those of `--socket PATH`; returns the exit code."""
    how, where = arguments if len(arguments) == 2 else ("", "")
    if how not in ("--fd", "--socket") or (how == "--fd" and not where.isdigit()) or not where:
        _say(USAGE)
        return 2
    _open_standard_descriptors()
    try:
        if how == "--fd" and not stat.S_ISSOCK(os.fstat(int(where)).st_mode):
            _say("cannot use descriptor %s: it is not a socket" % where)
            return 2
        os.stat("/proc/self/stat")
    except OSError as error:
        what = error.filename or "descriptor %s" % where
        _say("cannot use %s: %s" % (what, cause(error)))
        return 2
    # Agent code often runs as our user: it must not read our environment or memory.
    prctl(PR_SET_DUMPABLE, 0)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    loop = Loop()
    if how == "--fd":
        Launcher(loop, int(where)).serve()
        return 0
    from .session.listen import serve  # noqa: PLC0415  beside its proxy a launcher never listens

    try:
        serve(loop, where, lambda fd: Launcher(loop, fd))
    except LaunchError as error:
        _say(str(error))
        return 1
    return 0
