"""Whether starts can be warm: what to preload, where the list comes from, and what became of it.

    list                 -> fork server
    plan file            -> fork server, if the plan is for this interpreter and these packages
    auto                 -> as a valid plan file, else record in the background, then fork server

Everything else, and every failure on the way, is a cold start with the reason. What may go better
another time is tried again, a few times: a fork server that has died (see `warm.succession`), and a
recording that has failed, or that an init has cut short, once the pod has been dormant for a while.
"""

from __future__ import annotations

import os

from .errors import LaunchError
from .kernel.again import Again
from .record import planfile
from .record.recording import Job, Recording
from .session.command import Unsuitable, parse
from .session.preload import Preload
from .session.spec import Spec
from .upstream.delivery import base_environment
from .warm.succession import Succession
from .warm.zygote import Zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from .kernel.children import Children
    from .kernel.loop import Loop
    from .record.planfile import Plan
    from .session.command import Command
    from .warm.zygote import Kept

RECORDINGS = 3  # that fail, in a row
FIND_LIMIT = 10.0  # seconds for an interpreter to start and look for a module


class Warmth:
    """The seam of `process.Upstream`: `fork`."""

    def __init__(
        self, loop: Loop, children: Children, send: Callable[[dict[str, Any]], None]
    ) -> None:
        self._loop = loop
        self._children = children
        self._send = send
        self._servers = Succession(loop, children, send, self._record_instead)
        self._recording: Recording | None = None
        self._message: dict[str, Any] = {}
        self._preload: Preload | None = None
        self._command: Command | None = None
        self._rerecord = Again(loop, 0, RECORDINGS)
        self._wanted = False  # a recording, as soon as nothing runs

    def prepare(self, message: dict[str, Any]) -> None:
        """Begin to warm, in the background. Raises `LaunchError` when asked for nonsense."""
        self.close()
        self._message = {key: message.get(key) for key in ("argv", "cwd", "base_env", "base_unset")}
        self._preload = preload = Preload(message["preload"])
        self._rerecord = Again(self._loop, preload.rest, RECORDINGS)
        if self._servers.used_since is None:  # of a launcher before this one
            self._servers.used_since = preload.used_since
        self._servers.why = "the fork server has not been started yet"
        self._loop.later(0, lambda: self._begin(preload))  # after the answer

    def _begin(self, preload: Preload) -> None:
        try:
            self._command = command_of(Spec(self._message))
        except (Unsuitable, LaunchError) as error:
            self._servers.cold(str(error))
            return
        if preload.plan is not None and self._use_plan(preload.plan):
            return
        if preload.auto:
            self._record()
        elif preload.plan is None:
            self._warm(preload.modules, {})

    def hasten(self) -> None:
        """Somebody waits: a recording takes longer than a cold start, so it is given up."""
        if self._recording is not None:
            self._recording.cancel("the recording was cut short by an init")
            self._servers.cold("the recording was cut short by an init")
            self._wanted = self._preload is not None

    def busy(self, start: dict[str, Any]) -> None:
        """This is started, or runs: no recording, which has an upstream of its own, begins now."""
        self._rerecord.cancel()
        self._servers.busy(start)

    def idle(self) -> None:
        """Nothing runs any more: what was cut short may be begun again, after a rest."""
        self._servers.idle()
        if self._wanted and self._preload is not None:
            self._rerecord.after(self._preload.rest, self._record)

    def renew(self) -> bool:
        """As `Succession.renew`."""
        return self._servers.renew()

    def record(self, message: dict[str, Any]) -> None:
        """Record and report the plan, nothing else. Raises `LaunchError`."""
        if self._recording is not None:
            raise LaunchError("a recording is under way")
        preload = Preload(dict(message.get("preload") or {}, modules="auto"))
        spec = Spec(message)
        try:
            command = command_of(spec)
        except Unsuitable as error:
            raise LaunchError("cannot record: %s" % error) from None
        self._start_recording(spec, command, preload, self._recorded_only, keep=False)

    def find(self, message: dict[str, Any]) -> bool | None:
        """Whether the upstream could import `module`; None when that cannot be told."""
        spec = Spec(message)
        try:
            command = command_of(spec)
        except Unsuitable:
            return None
        zygote = Zygote(
            self._loop,
            self._children,
            emit=lambda _stream, _line: None,
            on_progress=lambda _done, _total: None,
            on_change=lambda: None,
        )
        zygote.start(spec, command, [], FIND_LIMIT, find=str(message.get("module")))
        self._loop.run_until(lambda: zygote.pid is None)
        return zygote.report["found"] if zygote.report is not None else None

    def fork(self, spec: Spec, stdout: int, stderr: int) -> int:
        return self._servers.fork(spec, stdout, stderr)

    def close(self) -> None:
        """End what is warm or warming."""
        self._wanted = False
        self._rerecord.cancel()
        if self._recording is not None:
            self._recording.cancel("the launcher ends")
        self._servers.close("the launcher ends")

    def _use_plan(self, path: str) -> bool:
        """Whether the plan file could be used, or its failure has been reported."""
        assert self._preload is not None
        assert self._command is not None
        try:
            plan = planfile.load(path)
            if plan.command != {"kind": self._command.kind, "target": self._command.target}:
                raise LaunchError(  # noqa: TRY301  reported as what `load` raises
                    "cannot use the plan %s: it is for another command" % path
                )
        except LaunchError as error:
            if not self._preload.auto:
                self._servers.cold(str(error))
            return not self._preload.auto
        self._warm(plan.modules, plan.worth(), identity=plan.identity)
        return True

    def _warm(self, modules: list[str], worth: dict[str, Any], **plan: Any) -> None:
        assert self._preload is not None
        assert self._command is not None
        self._servers.worth = worth
        self._servers.begin(self._message, self._command, modules, self._preload, **plan)

    def _record_instead(self) -> bool:
        if self._preload is None or not self._preload.auto:
            return False
        self._record()
        return True

    def _record(self) -> None:
        assert self._preload is not None
        assert self._command is not None
        if self._recording is not None or self._servers.there:
            return
        self._wanted = self._servers.running is not None
        if self._wanted:  # it would ask the other one whether it is ready, and may take its address
            self._servers.cold("a recording waits until nothing runs")
            return
        try:
            # One that begins behind a user preloads what was there before (`Succession`).
            keep = self._servers.used_since is None
            spec = Spec(self._message)
            self._start_recording(spec, self._command, self._preload, self._recorded, keep=keep)
        except LaunchError as error:
            self._servers.cold(str(error))

    def _start_recording(
        self,
        spec: Spec,
        command: Command,
        preload: Preload,
        on_end: Callable[[Plan | None, str, Kept | None], None],
        *,
        keep: bool,
    ) -> None:
        if preload.ready is None:
            raise LaunchError("cannot record: preload.ready is missing")
        self._servers.why = "the upstream's modules are being recorded"
        self._recording = Recording(
            self._loop,
            self._children,
            on_text=lambda text: self._send({"event": "recording", "text": text}),
            on_end=on_end,
        )
        self._recording.start(Job(spec, command, preload, keep=keep))

    def _recorded(self, plan: Plan | None, why: str, kept: Kept | None) -> None:
        assert self._preload is not None
        self._recording = None
        if plan is None:
            if self._servers.why != why:
                self._servers.cold(why)
                self._wanted = self._rerecord.soon(self._record)
            return
        self._rerecord.reset()
        if self._preload.plan is not None:
            try:
                planfile.save(plan, self._preload.plan)
            except LaunchError as error:
                self._send({"event": "recording", "text": str(error)})
        self._warm(plan.modules, plan.worth(), identity=plan.identity, kept=kept)

    def _recorded_only(self, plan: Plan | None, why: str, _kept: Kept | None) -> None:
        self._recording = None
        self._send(
            {"event": "recorded", "plan": plan.to_json() if plan else None, "why": why or None}
        )


def command_of(spec: Spec) -> Command:
    """Raises `Unsuitable`."""
    path = base_environment(spec).get(b"PATH")
    return parse(spec.argv, spec.cwd, os.fsdecode(path) if path else None)
