"""Finds out which modules of an upstream can be preloaded.

    boot    run the upstream once to its readiness, note the modules it has loaded, end it
    trial   in a fresh interpreter, import them under audit; strike every module that reads, sets
            or iterates over a name that may be delivered, raises, or leaves behind what a fork
            cannot carry over, and every module that imports such a one
    again   with those blocked, until a fresh interpreter finds nothing more to strike
    compare start the upstream from that last trial, and see that it is as the first one was; else
            strike whoever has made the difference, and try again

One trial is not enough: the first reader fills a process-wide cache and hides the next one. The
last trial, in which nothing was struck and nothing blocked was asked for, is the verification.
"""

from __future__ import annotations

import shutil
import tempfile
import time

from ..errors import LaunchError, cause
from ..session.preload import LINGER
from ..warm.birth import PACKAGE
from ..warm.zygote import Zygote
from .boot import Boot
from .planfile import Plan, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.preload import Preload
    from ..session.spec import Spec
    from .ready import Ready

ROUNDS = 12  # trials; each strikes at least one module, and chains of caches are short


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
        cold = self._boot()
        listing = [str(module) for module in cold["modules"] if not _is_ours(module)]
        self._say("the upstream has loaded %d modules" % len(listing))
        struck = self._program(listing)
        for number in range(ROUNDS):
            listing = [module for module in listing if module not in struck]
            zygote = self._zygote()
            report = self._trial(zygote, listing, struck)
            found = {name: why for name, why in report["struck"].items() if name not in struck}
            missing = set(report.get("missing", ()))
            listing = [module for module in listing if module not in missing]
            text = summary(found)
            self._say("trial %d of %d modules strikes %s" % (number + 1, len(listing), text))
            if not found and not report["hits"]:
                warm = self._run(zygote)
                found = _differs(report["changes"], cold["state"], warm["state"])
                if not found:
                    seconds = {"cold": cold["seconds"], "warm": warm["seconds"]}
                    return self._plan(report["identity"], listing, struck, seconds)
                self._say("a warm start strikes %s" % summary(found))
            struck.update(found)
        raise LaunchError("cannot record: %d trials have not come to an end" % ROUNDS)

    def _trial(self, zygote: Zygote, modules: list[str], struck: dict[str, str]) -> dict[str, Any]:
        trial = {
            "names": self._names,
            "likely": self._likely,
            "blocked": sorted(struck),
            "linger": LINGER,
        }
        zygote.start(self._spec, self._command, modules, self._timeout, trial=trial)
        self._loop.run_until(lambda: zygote.warm or zygote.pid is None)
        if not zygote.warm:
            self._children.sweep()
        if zygote.report is not None:
            return zygote.report
        if zygote.module is None:
            raise LaunchError(zygote.why)
        # It hung or ended the process: that is all there is to know about this module.
        return {"struck": {zygote.module: zygote.why}, "hits": 1}

    def _plan(
        self,
        identity: dict[str, Any],
        modules: list[str],
        struck: dict[str, str],
        seconds: dict[str, float],
    ) -> Plan:
        command = {"kind": self._command.kind, "target": self._command.target}
        return Plan(identity, command, self._names, modules, struck, seconds=seconds)

    def _boot(self) -> dict[str, Any]:
        """The report of an upstream for which nothing was preloaded."""
        zygote = self._zygote()
        zygote.start(self._spec, self._command, [], self._timeout)
        self._loop.run_until(lambda: zygote.warm or zygote.pid is None)
        return self._run(zygote)

    def _run(self, zygote: Zygote) -> dict[str, Any]:
        """Have it start the upstream; what that reports when it is ready. It is ended with it."""
        if not zygote.warm:
            raise LaunchError(zygote.why)
        try:
            scratch = tempfile.mkdtemp(prefix="recording-")
        except OSError as error:
            zygote.close("nothing can be recorded")
            raise LaunchError(
                "no directory to record in: %s; TMPDIR names one" % cause(error)
            ) from None
        boot = Boot(self._loop, self._children, zygote, self._ready)
        try:
            self._ready.ensure_vacant()
            begun = time.monotonic()
            boot.start(self._spec, scratch)
            boot.wait(self._timeout)
            seconds = round(time.monotonic() - begun, 3)
            return dict(boot.report(), seconds=seconds)
        finally:
            zygote.close("the recording is done")
            boot.end()
            self._children.sweep()
            shutil.rmtree(scratch, ignore_errors=True)

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


def _differs(changes: dict[str, str], cold: dict[str, Any], warm: dict[str, Any]) -> dict[str, str]:
    """Who has made a warm start another than the cold one.

    Raises `LaunchError` when it is another and nobody knows why.
    """
    what = next((what for what in cold if cold[what] != warm[what]), None)
    if what is None:
        return {}
    if what not in changes:
        raise LaunchError("cannot record: a warm start differs from a cold one in %s" % what)
    return {changes[what]: "leaves %s otherwise than a cold start" % what}


def _is_ours(module: str) -> bool:
    return module == "__main__" or module.partition(".")[0] == PACKAGE
