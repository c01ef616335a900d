"""The fork server: a process that has imported the upstream's modules and forks on request.

It runs with the upstream's interpreter, flags, environment (without what is delivered) and working
directory, and speaks JSON lines with the launcher over descriptor 3:

    launcher: {"command": …, "modules": […], "linger": seconds}
    here:     {"event": "importing", "module": …, "done": n}   before each import
              {"event": "warm", "seconds": …, "once": null | text} | {"event": "failed", "why": …}
             | {"event": "report", …}    of a trial (see `trial`), or of a module to `find`
    launcher: {"op": "child"}, with the socket that a child is to wait at (see `child_of_fork`)
              {"op": "part"}                                   to another launcher, which will say
              {"op": "adopt", "launcher": its pid}
    here:     {"event": "unborn", "why": …}                    when there could be none
              {"event": "parted"} | {"event": "adopted"}

With `once`, no second child may be used: the text says what it would have in common with the first.
It is told nothing else, because every later child is a copy of what it knows. The launcher is
trusted; the modules are not: they may hang, exit, fork or start threads, and whatever they leave
that a fork cannot carry over is a reason not to fork (`failed`).
"""

from __future__ import annotations

import sys

from ..audit.audit import Audit

# Before anything else is imported: what these modules read at import is watched as well.
AUDIT = Audit()
AUDIT.install()
from ..audit.interpose import Interposed  # noqa: E402
from ..audit.native import mapped  # noqa: E402

EARLIER = mapped()  # libraries that may have read something before anybody listened
GETENV = Interposed(AUDIT.note)
with AUDIT.paused():  # it asks for getenv and environ
    HEARD = GETENV.install()

import gc  # noqa: E402
import os  # noqa: E402
import signal  # noqa: E402
import socket  # noqa: E402
import time  # noqa: E402
from contextlib import contextmanager  # noqa: E402

from ..audit.lookout import Lookout  # noqa: E402
from ..audit.native import Native  # noqa: E402
from ..audit.startup import reads_of_start  # noqa: E402
from ..kernel.prctl import PR_SET_DUMPABLE, PR_SET_PDEATHSIG, die_with, prctl  # noqa: E402
from ..session.command import Command, Unsuitable  # noqa: E402
from . import entry  # noqa: E402
from .child_of_fork import Grown, bear  # noqa: E402
from .identity import difference, identity  # noqa: E402
from .refusal import refusal  # noqa: E402
from .stream import Stream  # noqa: E402
from .traces.anew import make_anew  # noqa: E402
from .traces.draws import Draws  # noqa: E402
from .traces.leftovers import Leftovers, shared_memory  # noqa: E402
from .traces.threads import Threads  # noqa: E402
from .traces.unchanged import changed_since, files_of  # noqa: E402
from .trial import Trial  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any, Callable, Iterator

FD = 3


class CannotPreloadError(Exception):
    """The modules cannot be preloaded; the text names the one and says why."""


class StaleError(CannotPreloadError):
    """The plan was recorded for something else."""


class ForkServer:
    def __init__(self, stream: Stream, command: Command, ours: list[ModuleType]) -> None:
        self.command = command
        self._stream = stream
        self._pid = os.getpid()
        self._native: Native | None = None
        self._draws = Draws()
        self._threads = Threads()
        self._shared = shared_memory()
        self._watched: list[str] = []
        self._own = files_of(ours)

    def preload(self, config: dict[str, Any]) -> None:
        """Import everything, then make sure that a fork is a faithful copy."""
        started = time.monotonic()
        leftovers = Leftovers()
        with AUDIT.paused():
            AUDIT.absorb(reads_of_start(self.command))
        try:
            entry.arrange(self.command)
        except Unsuitable as error:
            raise CannotPreloadError(str(error)) from None
        if "find" in config:
            self._stream.send({"event": "report", "found": entry.is_there(config["find"])})
            os._exit(0)
        present = identity()
        differs = difference(config.get("identity") or present, present)
        if differs:
            raise StaleError(differs)
        self._threads.install()
        self._draws.install()
        with self._lookout(config.get("files", [])):
            if "trial" in config:
                self._try(config, leftovers, present)
            else:
                self._import_all(config["modules"], leftovers, config.get("linger", 0))
        self._draws.remove()
        self._threads.remove()
        changed = "since" in config and changed_since(
            config["since"], [*self._own, *AUDIT.files.opened]
        )
        if changed:
            raise CannotPreloadError("%s was changed in the time of another user" % changed)
        self._freeze()
        self._stream.send(
            {
                "event": "warm",
                "seconds": round(time.monotonic() - started, 3),
                "once": self._why_once(),
            }
        )

    def _why_once(self) -> str | None:
        """What a second fork would share with the first, as no two processes do; None: nothing."""
        for module, what in self._draws.drawn.items():
            return "module %s %s" % (module, what)
        for where, what in shared_memory().items():
            if where not in self._shared:
                return "a module has mapped memory shared (%s)" % what
        return None

    @contextmanager
    def _lookout(self, files: list[str]) -> Iterator[None]:
        lookout = Lookout(files, AUDIT.note_asked)
        if files:
            self._watched = files
            lookout.install()
        yield
        lookout.remove()

    def _import_all(self, modules: list[str], leftovers: Leftovers, linger: float) -> None:
        for done, name in enumerate(modules):
            self._step(name, done)
            self._import(name)
            AUDIT.imported(name)
            self._threads.look(name)
            fault = leftovers.check()
            if fault:
                raise CannotPreloadError("module %s %s" % (name, fault))
        if entry.is_own_module(self.command):
            raise CannotPreloadError("module %s is the one to be run" % self.command.target)
        for item in self._threads.wait(linger).items():
            raise CannotPreloadError("module %s %s" % item)
        fault = leftovers.check()
        if fault:
            raise CannotPreloadError("a preloaded module %s" % fault)
        leftovers.close()

    def _step(self, module: str, done: int) -> None:
        self._stream.send({"event": "importing", "module": module, "done": done})

    def _try(self, config: dict[str, Any], leftovers: Leftovers, present: dict[str, Any]) -> None:
        """Report on every module; returns, to serve, when it has struck nothing by itself."""
        trial = Trial(AUDIT, config["trial"])
        report = trial.run(config["modules"], leftovers, self._threads, self._step)
        self._stream.send(dict(report, identity=present))
        if report["struck"] or report["hits"]:
            os._exit(0)
        trial.end()
        leftovers.close()

    def _import(self, name: str) -> None:
        try:
            __import__(name)
        except SystemExit as error:
            raise CannotPreloadError(
                "module %s called sys.exit(%s)" % (name, _short(error.code))
            ) from None
        except BaseException as error:  # noqa: BLE001  whatever it is, it is named and the start is cold
            text = "module %s raised %s: %s" % (name, type(error).__name__, _short(error))
            raise CannotPreloadError(text) from None
        finally:
            if os.getpid() != self._pid:
                os._exit(0)  # the module forked, and this is not the fork server
        self._stream.own()

    def _freeze(self) -> None:
        """Flush, search the libraries, and keep the collector off what the children share."""
        self._native = Native(mapped(), EARLIER if HEARD else None)
        GETENV.remove()
        AUDIT.finish()
        for file in (sys.stdout, sys.stderr):
            if file is not None:
                file.flush()
        gc.collect()
        gc.freeze()

    def serve(self) -> None:
        """Make children until the launcher closes its end. Raises `Grown` in a child."""
        self._stream.unguard()
        while True:
            message, descriptors = self._stream.receive()
            if message is None:
                os._exit(0)  # nothing of the modules' own endings: they have not run
            if message["op"] == "child":
                self._bear(descriptors[0])
            elif message["op"] == "part":
                prctl(PR_SET_PDEATHSIG, 0)  # until then the end of its socket is its end
                self._stream.send({"event": "parted"})
            else:
                die_with(message["launcher"])
                self._stream.send({"event": "adopted"})
            for fd in descriptors:
                os.close(fd)

    def _bear(self, end: int) -> None:
        try:
            bear(end, self._stream, self.refusal, self._anew)
        except OSError as error:
            self._stream.send({"event": "unborn", "why": error.strerror})

    def _anew(self) -> None:
        make_anew(self._draws.generators(), self._draws.authkey)

    def refusal(self, orders: dict[str, Any]) -> str | None:
        return refusal(orders, AUDIT, self._native, self._watched)


def _short(value: object) -> str:
    try:
        text = str(value)
    except Exception:  # noqa: BLE001  an error that cannot be shown is still an error
        return "?"
    return text if len(text) <= 200 else text[:200] + "…"


def main() -> Callable[[], None]:
    """Preload and serve; returns only in a forked child, with what it has to run."""
    prctl(PR_SET_DUMPABLE, 0)  # nobody who runs as this user shall reach into what is to come
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    os.set_inheritable(FD, False)
    stream = Stream(socket.socket(fileno=FD))
    stream.guard()
    stream.send({"event": "hello"})
    config, _ = stream.receive()
    if config is None:
        os._exit(0)
    package = __name__.partition(".")[0]
    ours = [name for name in sys.modules if name.partition(".")[0] == package]
    # The modules to come shall find nothing of ours.
    server = ForkServer(
        stream, Command.from_json(config["command"]), [sys.modules.pop(name) for name in ours]
    )
    try:
        server.preload(config)
    except CannotPreloadError as error:
        stale = isinstance(error, StaleError)
        stream.send({"event": "failed", "why": str(error), "stale": stale})
        os._exit(1)
    try:
        server.serve()
    except Grown:
        pass
    return lambda: entry.run(server.command)
