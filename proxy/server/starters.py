"""The starter that the settings mean, composed of where the server is started and how it waits.

*Where* (`upstream.activation`) is a `Place` for launchers, a process that runs by itself, or a
server that somebody else starts. *How it waits* is nothing or a preload, by a launcher, or a
`Way` in which it runs meanwhile.
"""

from __future__ import annotations

import os
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from proxy.activation.launched.own.orphans import end_orphans
from proxy.activation.launched.own.place import OwnPlace
from proxy.activation.launched.starter import LaunchedStarter
from proxy.errors import ActivationError
from proxy.launcher.errors import LaunchError
from proxy.launcher.session.spec import FileSpec
from proxy.launcher.upstream.files import Files
from proxy.lifecycle.state import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.launched.session import Place
    from proxy.activation.readiness.probe import Probe
    from proxy.activation.readiness.pulse import Pulse
    from proxy.activation.starter import Starter
    from proxy.activation.waiting.way import Way
    from proxy.lifecycle.plan import PlannedFile
    from proxy.lifecycle.state import Lifecycle
    from proxy.settings import NativeSettings, UpstreamSettings


def make_starter(
    upstream: UpstreamSettings,
    native: NativeSettings | None,
    *,
    run_dir: str,
    probe: Probe,
    ending: Callable[[], bool],
    on_key: Callable[[str], None],
    on_output: Callable[[str, str, bool], None],
    on_warming: Callable[[int, int], None],
    on_leaving: Callable[[], None],
) -> Starter:
    """The starter for `upstream`. Only what is asked for is imported.

    `native` is the dormant mode of its own that is to be tried; what that needs is told in
    `NativeWay`. `on_leaving` is called when the upstream's own container was told to end.
    """
    if upstream.activation == "signal":
        from proxy.activation.signalled.delivery import Delivery  # noqa: PLC0415
        from proxy.activation.signalled.signals import SignalStarter  # noqa: PLC0415

        return SignalStarter(upstream, Delivery(upstream.run_dir or "", SharedFiles()))
    if upstream.activation == "forward":
        from proxy.activation.forward import ForwardStarter  # noqa: PLC0415
        from proxy.activation.owninit import OwnInit  # noqa: PLC0415

        key = upstream.forward.key
        own = OwnInit(upstream.url, key.get_secret_value() if key is not None else None)
        return ForwardStarter(own)

    def heard(stream: str, line: str, more: bool) -> None:  # noqa: FBT001  a callback
        probe.hear(line)
        on_output(stream, line, more)

    launched = LaunchedStarter(
        upstream,
        _place(upstream),
        on_begin=probe.begin,
        on_output=heard,
        on_warming=on_warming,
        on_leaving=on_leaving,
        # A recording needs the upstream's address for itself.
        put_off=upstream.records and (native is not None or upstream.stands_by),
    )
    if native is None and not upstream.stands_by:
        return _rehearsed(upstream, launched, probe, run_dir) if upstream.rehearsal else launched
    from proxy.activation.waiting.starter import WaitingStarter  # noqa: PLC0415

    way: Way
    if native is None:
        from proxy.activation.standby.way import StandbyWay  # noqa: PLC0415

        way = StandbyWay(upstream, launched, probe, run_dir=run_dir)
    else:
        from proxy.activation.native.way import NativeWay  # noqa: PLC0415

        way = NativeWay(
            *(upstream, native, launched), run_dir=run_dir, on_key=on_key, passes=probe.check
        )
    return WaitingStarter(way, launched, demanded=upstream.dormancy == way.kind, ending=ending)


def _rehearsed(
    upstream: UpstreamSettings, launched: LaunchedStarter, probe: Probe, run_dir: str
) -> Starter:
    from proxy.activation.rehearsing import RehearsingStarter  # noqa: PLC0415
    from proxy.lifecycle.rehearsal import rehearsal_plan  # noqa: PLC0415

    return RehearsingStarter(
        launched,
        lambda: rehearsal_plan(upstream, run_dir=run_dir),
        probe,
        limit=upstream.preload.timeout,
    )


def make_pulse(upstream: UpstreamSettings, starter: Starter, lifecycle: Lifecycle) -> Pulse | None:
    """What kills an upstream that hangs, where that is asked for."""
    alive = upstream.alive
    if alive.path is None:
        return None
    from proxy.activation.readiness.probe import Probe  # noqa: PLC0415
    from proxy.activation.readiness.pulse import Pulse  # noqa: PLC0415
    from proxy.settings import ReadySettings  # noqa: PLC0415

    # It answers, whatever it thinks of the question.
    asked = ReadySettings(path=alive.path, statuses=("200-499",), timeout=alive.interval)
    return Pulse(
        check=Probe(upstream.url, asked).check,
        interval=alive.interval,
        failures=alive.failures,
        wanted=lambda: lifecycle.state is State.READY,
        kill=starter.kill,
    )


def _place(upstream: UpstreamSettings) -> Place:
    if upstream.activation == "launcher":
        from proxy.activation.launched.remote import RemotePlace  # noqa: PLC0415

        return RemotePlace(upstream.launcher.socket or "", upstream.launcher.token or "")
    return OwnPlace(upstream, os.environ, sweep=end_orphans)


class SharedFiles:
    """A plan's files, written by the proxy itself with what the launcher writes them with."""

    def __init__(self) -> None:
        self._files = Files()

    def write(self, files: list[PlannedFile], run_dir: str) -> None:
        specs = [FileSpec(file.path, file.content, file.mode, file.base_file) for file in files]
        try:
            self._files.write(specs, run_dir, None)
        except LaunchError as error:
            raise ActivationError(str(error)) from None

    def undo(self) -> None:
        try:
            self._files.undo()
        except LaunchError as error:
            raise ActivationError(str(error)) from None

    def clear(self, run_dir: str) -> None:
        """Undo what a proxy that was killed has left."""
        try:
            self._files.recover(run_dir)
        except LaunchError as error:
            raise ActivationError(str(error)) from None


def private_run_dir() -> str:
    """A name nobody can guess or have made before; the launcher makes the directory."""
    try:
        above = tempfile.gettempdir()
    except FileNotFoundError:  # nothing is writable: an activation without files needs nothing
        above = "/tmp"  # noqa: S108  for the name that an error then tells
    return str(Path(above) / f"deferred-init-{uuid.uuid4().hex}")
