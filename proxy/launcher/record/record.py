"""Finds out which modules of an upstream can be preloaded.

    boot    run the upstream once to its readiness under audit, note the modules it has loaded and
            who needs whom, end it; strike every module that reads, sets or iterates over a name
            that may be delivered, and every module that needs such a one
    trial   in a fresh interpreter, import the others, again under audit; strike as before, and who
            raises, or leaves behind what a fork cannot carry over
    again   with those blocked, until a fresh interpreter finds nothing more to strike
    compare start the upstream from that last trial, and see that it is as the first one was; else
            strike whoever has made the difference, and try again

The boot is not enough: the first reader fills a process-wide cache and hides the next one. The
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
from .judge import Judge
from .planfile import Plan, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.preload import Preload
    from ..session.spec import Spec
    from ..warm.zygote import Kept
    from .ready import Ready

ROUNDS = 12  # trials; each strikes at least one module, and chains of caches are short
NOTHING: dict[str, Any] = {"struck": {}, "reads": [], "likely": []}


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
        keep: bool = False,
    ) -> None:
        self._loop = loop
        self._children = children
        self._spec = spec
        self._command = command
        self._patterns = {"names": preload.names, "likely": preload.likely, "settled": []}
        self._ready = ready
        self._timeout = preload.timeout
        self._say = say
        self._keep = keep
        self._files = preload.files
        self._last: Zygote | None = None
        self.kept: Kept | None = None  # the last trial, which is a fork server

    def run(self) -> Plan:
        """Raises `LaunchError`. Leaves no process but what is `kept`, and no file."""
        try:
            return self._passes()
        except LaunchError:
            self._end(self._last)
            raise

    def _passes(self) -> Plan:
        zygote = self._zygote()
        # What is read before the first module is imported cannot be delivered warm.
        self._patterns["settled"] = self._trial(zygote, [], {})["settled"]
        cold = self._run(zygote, self._patterns)
        self._end(zygote)
        listing = [str(module) for module in cold["modules"] if not _is_ours(module)]
        self._say("the upstream has loaded %d modules" % len(listing))
        judge = Judge(cold["needed"], cold["seconds"])
        struck = self._program(listing)
        found = judge.verdict(cold, struck)
        self._say("the start strikes %s" % summary(found))
        for number in range(ROUNDS):
            struck.update(found)
            listing = [module for module in listing if module not in struck]
            zygote = self._zygote()
            report = self._trial(zygote, listing, struck)
            missing = set(report.get("missing", ()))
            listing = [module for module in listing if module not in missing]
            found = judge.verdict(report, struck)
            text = summary(found)
            self._say("trial %d of %d modules strikes %s" % (number + 1, len(listing), text))
            if found or report["hits"]:
                self._end(zygote)
                continue
            warm = self._run(zygote, {})
            found = judge.verdict(
                _differing(report["changes"], cold["state"], warm["state"]), struck
            )
            if not found:
                seconds = {"cold": cold["took"], "warm": warm["took"]}
                # A second child would share with the one of the comparison what it may not share.
                if self._keep and zygote.once is None:
                    self.kept = zygote.part()
                else:
                    self._end(zygote)
                return Plan(
                    report["identity"],
                    {"kind": self._command.kind, "target": self._command.target},
                    self._patterns["names"],
                    listing,
                    struck,
                    seconds=seconds,
                    costs=judge.costs(struck),
                    processes=cold["processes"],
                )
            self._end(zygote)
            self._say("a warm start strikes %s" % summary(found))
        raise LaunchError("cannot record: %d trials have not come to an end" % ROUNDS)

    def _trial(self, zygote: Zygote, modules: list[str], struck: dict[str, str]) -> dict[str, Any]:
        trial = dict(self._patterns, blocked=sorted(struck), linger=LINGER)
        zygote.start(
            self._spec, self._command, modules, self._timeout, trial=trial, files=self._files
        )
        self._loop.run_until(lambda: zygote.warm or zygote.pid is None or zygote.report)
        if zygote.report is not None:
            return zygote.report
        self._children.sweep()
        if zygote.module is None:
            raise LaunchError(zygote.why)
        # It hung or ended the process: that is all there is to know about this module.
        return dict(NOTHING, struck={zygote.module: zygote.why}, hits=1)

    def _run(self, zygote: Zygote, names: dict[str, list[str]]) -> dict[str, Any]:
        """Have it start the upstream; what that reports when it is ready. It is ended."""
        self._loop.run_until(lambda: zygote.warm or zygote.pid is None)
        if not zygote.warm:
            raise LaunchError(zygote.why)
        try:
            scratch = tempfile.mkdtemp(prefix="recording-")
        except OSError as error:
            raise LaunchError(
                "no directory to record in: %s; TMPDIR names one" % cause(error)
            ) from None
        boot = Boot(self._loop, self._children, zygote, self._ready)
        try:
            self._ready.ensure_vacant()
            begun = time.monotonic()
            boot.start(self._spec, scratch, names)
            boot.wait(self._timeout)
            took = round(time.monotonic() - begun, 3)
            return dict(boot.report(), took=took, processes=boot.processes)
        finally:
            boot.end()
            self._children.sweep()
            shutil.rmtree(scratch, ignore_errors=True)

    def _end(self, zygote: Zygote | None) -> None:
        if zygote is not None:
            zygote.close("the recording is done with it")
        self._children.sweep()

    def _program(self, listing: list[str]) -> dict[str, str]:
        """The module that is run, which must not be imported before; a package may be."""
        target = self._command.target
        if self._command.kind != "module" or target not in listing:
            return {}
        inside = any(module.startswith(target + ".") for module in listing)
        return {} if inside else {target: "is the program itself"}

    def _zygote(self) -> Zygote:
        self._last = Zygote(
            self._loop,
            self._children,
            emit=lambda _stream, _line: None,
            on_progress=lambda _done, _total: None,
            on_change=lambda: None,
        )
        return self._last


def _differing(
    changes: dict[str, str], cold: dict[str, Any], warm: dict[str, Any]
) -> dict[str, Any]:
    """Who has made a warm start another than the cold one, as a report.

    Raises `LaunchError` when it is another and nobody knows why.
    """
    what = next((what for what in cold if cold[what] != warm[what]), None)
    if what is None:
        return NOTHING
    if what not in changes:
        raise LaunchError("cannot record: a warm start differs from a cold one in %s" % what)
    return dict(NOTHING, struck={changes[what]: "leaves %s otherwise than a cold start" % what})


def _is_ours(module: str) -> bool:
    return module == "__main__" or module.partition(".")[0] == PACKAGE
