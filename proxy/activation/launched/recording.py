"""Has a launcher of our own make a preload plan, instead of everything else."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from proxy.activation.launched.messages import command_fields
from proxy.activation.launched.own.place import OwnPlace
from proxy.activation.launched.runs import Runs
from proxy.activation.launched.session import Session
from proxy.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from proxy.activation.launched.link import Launcher
    from proxy.settings import UpstreamSettings


async def record(
    upstream: UpstreamSettings,
    environ: Mapping[str, str],
    terms: dict[str, Any],
    say: Callable[[str], None],
) -> dict[str, Any]:
    """The plan. Raises `LauncherError`.

    `terms` are `preloading.recording_terms`; `say` is told of the progress.
    """
    end: asyncio.Future[tuple[dict[str, Any] | None, str]]
    end = asyncio.get_running_loop().create_future()

    def ended(plan: dict[str, Any] | None, why: str) -> None:
        if not end.done():
            end.set_result((plan, why))

    def event(message: dict[str, Any]) -> None:
        match message["event"]:
            case "recording":
                say(message["text"])
            case "recorded":
                ended(message["plan"], message["why"])

    async def prepare(launcher: Launcher) -> None:
        grace = {"grace": upstream.stop_grace}
        await launcher.link.call("prepare", **command_fields(upstream), **grace, preload=None)

    session = Session(
        OwnPlace(upstream, environ),
        Runs(),
        on_event=event,
        prepare=prepare,
        on_lost=lambda _reason: ended(None, "cannot record: the launcher is gone"),
    )
    try:
        await session.open()
        await session.call("record", **command_fields(upstream), preload=terms)
        plan, why = await end
    finally:
        await session.close(upstream.stop_grace)
    if plan is None:
        raise LauncherError(why)
    return plan
