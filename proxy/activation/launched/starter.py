"""Starts upstreams through a launcher, wherever that is, which preloads or does nothing meanwhile.

The launcher (`proxy/launcher`) hears us through a connection that is also the watch: when either
side dies, however it dies, the other sees its end at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.launched.messages import command_fields, start_fields
from proxy.activation.launched.preloading import preload_message
from proxy.activation.launched.runs import Runs
from proxy.activation.launched.session import Session
from proxy.activation.readiness.vacancy import ensure_vacant, vacate
from proxy.activation.starter import Exit, Found, Outlook, Started
from proxy.activation.tasks import cancel
from proxy.errors import LauncherError, LauncherGoneError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.session import Place
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings

    Call = Callable[..., Awaitable[object]]

logger = logging.getLogger(__name__)

# Of a cold start's time that a warm one may take: a third; and what is known of the cold one is how
# long it took under the watch of a recording, which is up to 1.6 times as long;
_WORTH_IT: Final = 1 / 5
_QUICK: Final = 0.5  # or so many seconds, which is quick enough of whatever
NOTHING_PRELOADED: Final = "nothing is preloaded"
# Launchers in a row that are lost while they preload; the next ones do not.
_FALLS: Final = 3


class LaunchedStarter:
    """The `Starter` for `upstream.activation: spawn` and `launcher`.

    `on_output(stream, line, more)` gets every line of the upstream's, unmasked, a very long one in
    pieces (`more` is true for all but the last); `on_begin()` hears of each start before its first
    line; `on_warming(done, total)` the progress of a
    preload; `on_leaving` hears that the launcher's container was told to end. With `put_off`
    nothing is preloaded until `preload`.
    """

    def __init__(
        self,
        upstream: UpstreamSettings,
        place: Place,
        *,
        on_output: Callable[[str, str, bool], None],
        on_begin: Callable[[], None] | None = None,
        on_warming: Callable[[int, int], None] | None = None,
        on_leaving: Callable[[], None] | None = None,
        put_off: bool = False,
    ) -> None:
        loop = asyncio.get_running_loop()
        self._upstream = upstream
        self._on_output = on_output
        self._on_begin = on_begin
        self._on_warming = on_warming
        self._on_leaving = on_leaving
        self._put_off = put_off
        self._runs = Runs()
        self._session = Session(
            place, self._runs, on_event=self._event, prepare=self._prepare, on_lost=self._lose
        )
        self._renewing: asyncio.Task[None] | None = None
        # With its container a launcher loses whatever a user may have left there.
        self._keeps_files = not place.apart
        self._used_since: float | None = None  # when the first user's code may have run
        self.owned_pids = place.owned_pids
        self.is_warm = False
        self._preloading = False
        self._falls = 0  # in a row, while it preloaded
        self._slow: str | None = None  # why a warm start is hardly worth the name
        self._judged: tuple[str | None, ...] = ()  # the last word on the warmth, if there was one
        self.found: Found | None = None
        self.unready: str | None = None
        self.waits = False
        self.warmed: asyncio.Future[str | None] = loop.create_future()

    def __repr__(self) -> str:
        return f"<LaunchedStarter {self._session!r} running={list(self._runs)}>"

    async def open(self) -> None:
        """See that there is a launcher, and tell it what to prepare. Raises `LauncherError`."""
        await self._session.open()

    async def start(self, plan: Plan) -> Started:
        """Write the plan's files and start the upstream. Raises `ActivationError`, all undone.

        A cancelled start may yet succeed; `stop` ends what it began.
        """
        await self._session.open()
        if self._upstream.records and not self._put_off:
            await vacate(self._upstream.url, self._end_recording)
        await ensure_vacant(self._upstream.url)
        self._runs.begin(plan)
        if self._on_begin is not None:
            self._on_begin()
        if self._used_since is None and self._keeps_files and not plan.key:
            self._used_since = time.time()
        answer = await self._session.call("start", **start_fields(plan))
        pid, kind, why = answer["pid"], answer["kind"], answer["why"]
        if kind == "warm" and self._slow is not None:
            kind, why = "partial", self._slow
        if why == NOTHING_PRELOADED:
            why = self._not_preloaded
        return Started(pid=pid, kind=kind, why=why, exited=self._runs.exited(pid))

    @property
    def outlook(self) -> Outlook:
        if self.is_warm:
            return Outlook("warm" if self._slow is None else "partial", self._slow)
        return Outlook("cold", self._judged[0] if self._judged else "it is not warm yet")

    async def given(self, plan: Plan) -> str | None:
        """The running upstream is about to be told of `plan`; why it cannot be, or None.

        Raises `LauncherGoneError`.
        """
        try:
            await self._session.call("given", **start_fields(plan))
        except LauncherGoneError:
            raise
        except LauncherError as error:
            return str(error)
        return None

    async def lacks(self, module: str) -> bool:
        """Whether the upstream is a Python program that cannot import `module`."""
        try:
            answer = await self._session.call(
                "find", module=module, **command_fields(self._upstream)
            )
        except LauncherError:  # an older launcher's word for not knowing
            return False
        return answer["found"] is False

    async def preload(self) -> None:
        """Begin to preload, where that was put off. Raises `LauncherError`."""
        if self._put_off:
            self._put_off = False
            await self._session.open()
            await self._tell_what_to_prepare(self._session.call)

    def disown(self) -> None:
        """What was found is not to be taken over."""
        self.found = None
        for why_not in self._judged:
            self._warm(why_not)

    async def _end_recording(self) -> None:
        """A launcher that has been replaced records anew, with an upstream at the same address."""
        await self._session.call("hasten")
        await self._session.call("stop", grace=0)  # sweeps what the recording has started

    async def hasten(self) -> None:
        """Somebody waits for `warmed`: what takes longer than a cold start is given up."""
        if not self.warmed.done():
            with contextlib.suppress(LauncherError):
                await self._session.open()
                await self._session.call("hasten")

    async def stop(self) -> None:
        """As `Session.stop`, with `stop_grace`. Raises `LauncherError`."""
        await self._session.stop(self._upstream.stop_grace)

    async def kill(self, grace: float = 0.0) -> None:
        """As `stop`, with so much grace at most; shortens a stop that is under way."""
        await self._session.stop(min(grace, self._upstream.stop_grace))

    async def signal(self, name: str) -> None:
        await self._session.call("signal", signal=name)

    def renew(self) -> None:
        self.found = None  # it has ended, whoever had started it
        if self.warmed.done():
            why, self.warmed = self.warmed.result(), asyncio.get_running_loop().create_future()
            self._renewing = asyncio.create_task(self._renew(why), name="renew")

    async def _renew(self, why: str | None) -> None:
        try:
            await self._session.open()  # the last user may have taken the launcher along
            answer = await self._session.call("renew")
        except LauncherError as error:
            self._warm(str(error))
            return
        if not answer["warming"]:
            self._warm(why)

    async def close(self) -> None:
        await cancel(self._renewing)
        await self._session.close(self._upstream.stop_grace)

    async def _prepare(self, launcher: Launcher) -> None:
        if launcher.running is not None:
            self._find(*launcher.running)
        await self._tell_what_to_prepare(launcher.link.call)

    async def _tell_what_to_prepare(self, call: Call) -> None:
        upstream = self._upstream
        given_up = self._put_off or self._falls >= _FALLS
        preload = None if given_up else preload_message(upstream)
        if preload is not None:
            preload["used_since"] = self._used_since
        self._preloading = preload is not None
        fields = command_fields(upstream) | {
            "grace": upstream.stop_grace,
            "signal": upstream.stop_signal,
            "preload": preload,
        }
        await call("prepare", **fields)
        if preload is None:
            self._warm(self._not_preloaded)

    @property
    def _not_preloaded(self) -> str:
        if self._falls < _FALLS:
            return NOTHING_PRELOADED
        return f"{NOTHING_PRELOADED}: {_FALLS} launchers in a row were lost while they preloaded"

    def _find(self, pid: int, plan: Plan) -> None:
        exited = self._runs.exited(pid)
        started = Started(pid=pid, kind="cold", why="it was running already", exited=exited)
        self.found = Found(plan=plan, started=started)

    def _lose(self, reason: str) -> None:
        logger.error("launcher lost", extra={"reason": reason})
        idle, was_warm, self.is_warm = self._runs.idle, self.is_warm, False
        self._falls += self._preloading
        self._preloading = False
        exit_ = Exit(code=128 + signal.SIGKILL, reason=f"was killed because {reason}")
        self._runs.lose(exit_)
        self._warm(reason)
        if idle and was_warm:
            # The one that follows warms for the next user, who is to wait for it.
            self.warmed = asyncio.get_running_loop().create_future()
            if self._on_warming is not None:
                self._on_warming(0, 0)

    def _event(self, message: dict[str, Any]) -> None:
        match message["event"]:
            case "output":
                self._on_output(message["stream"], message["line"], message.get("more", False))
            case "exit":
                self._runs.ended(message)
            case "warming" if self._on_warming is not None:
                self._on_warming(message["done"], message["total"])
            case "warm":
                self._warmed(message)
            case "cold":
                self.is_warm = self._preloading = False
                logger.error("starts will be cold", extra={"reason": message["why"]})
                self._warm(message["why"])
            case "recording":
                logger.info("recording", extra={"step": message["text"]})
            case "leaving" if self._on_leaving is not None:
                self._on_leaving()

    def _warmed(self, message: dict[str, Any]) -> None:
        told = ("modules", "loaded", "seconds", "notes", "recorded")
        extra = {name: message[name] for name in told if name in message}
        logger.info("fork server is warm", extra=extra)
        if self._on_warming is not None:
            self._on_warming(message["modules"], message.get("loaded", message["modules"]))
        took = message.get("recorded") or {}
        self._slow = None
        if took and took["warm"] > max(took["cold"] * _WORTH_IT, _QUICK):
            self._slow = (
                f"it takes {took['warm']:.1f} of a cold start's {took['cold']:.1f} s:"
                f" not preloaded is {message['struck']}"
            )
            logger.warning("warm starts will take long", extra={"reason": self._slow})
        self.is_warm = True
        self._preloading, self._falls = False, 0
        self._warm(None)

    def _warm(self, why_not: str | None) -> None:
        # Until a running one was taken over (or given up), nobody may be told to go ahead.
        self._judged = (why_not,)
        if self.found is None and not self._put_off and not self.warmed.done():
            self.warmed.set_result(why_not)
