"""Fork servers one after the other, each of one user.

While an upstream runs, its user's code may be able to reach the fork server, and what that has
preloaded. So from the first start on a fork server is that user's: it serves the same start again,
and no other. When the user goes, it goes as well (`renew`), and one that begins when nothing of a
user's runs follows it: what that preloads must have been there, unchanged, before the first user
came (`fork.traces.unchanged`).

One that has died is followed by another, a few times. One whose children would have something in
common (`Zygote.once`) serves a single start and ends.
"""

from __future__ import annotations

import os
import time

from ..errors import LaunchError
from ..kernel.again import Again
from ..session.spec import Spec
from .zygote import Zygote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from ..session.command import Command
    from ..session.preload import Preload
    from .zygote import Kept

PROGRESS_INTERVAL = 0.25  # seconds between two reports of progress
FIRST_REBIRTH = 0.5  # seconds until a fork server that has died is started again; then doubling
REBIRTHS = 6  # in a row
HEALTHY = 60.0  # seconds of warmth after which the row begins anew
SPENT = 5.0  # seconds after its only start that a fork server ends: the start goes first
ONCE = "a fork server of these modules serves one start: %s"
_CLOCK_OF_FILES = 5  # CLOCK_REALTIME_COARSE, by which the kernel stamps files


class Succession:
    """`send(event)` tells the controller; `on_stale()` is asked when a plan does not fit.

    It says whether it knows better than to stay cold.
    """

    def __init__(
        self,
        loop: Loop,
        children: Children,
        send: Callable[[dict[str, Any]], None],
        on_stale: Callable[[], bool],
    ) -> None:
        self._loop = loop
        self._children = children
        self._send = send
        self._on_stale = on_stale
        self._zygote: Zygote | None = None
        self._begin: Callable[[], None] | None = None  # another one like the last
        self._said = 0.0
        self._rebirth = Again(loop, FIRST_REBIRTH, REBIRTHS)
        self._warm_since = 0.0
        self._spent = False  # it has served its only start
        self._user: dict[str, Any] | None = None  # the start in whose time it has lived
        self.running: dict[str, Any] | None = None  # the start of an upstream that runs, or may
        self.used_since: float | None = None  # when the first user came, in seconds of the epoch
        self.why = "nothing is preloaded"
        self.worth: dict[str, Any] = {}  # what is known of the modules, for the controller

    def __repr__(self) -> str:
        return "<Succession %s%s>" % (
            self._zygote and self._zygote.pid,
            self._user and " of a user",
        )

    @property
    def there(self) -> bool:
        """Whether there is a fork server, warm or not yet."""
        return self._zygote is not None

    def begin(
        self,
        message: dict[str, Any],
        command: Command,
        modules: list[str],
        preload: Preload,
        *,
        kept: Kept | None = None,
        **plan: Any,
    ) -> None:
        """Start the first, or go on with one that was `kept` by a recording.

        `plan` is its identity, if the modules come from one.
        """

        def again() -> None:
            self._start(Spec(message), command, modules, preload, plan)

        self._begin = again
        self._rebirth.reset()
        if kept is None or not self._adopt(Spec(message), command, modules, preload, kept):
            again()

    def busy(self, start: dict[str, Any]) -> None:
        """This is about to be started, or runs."""
        if self.used_since is None:
            self.used_since = time.clock_gettime(_CLOCK_OF_FILES)
        if self._user not in (None, start):
            self.running = None
            self.renew()
        self.running = self._user = start

    def idle(self) -> None:
        """Nothing runs any more."""
        self.running = None

    def renew(self) -> bool:
        """The user has gone for good. Whether a fork server is on its way."""
        if self._begin and self._user is not None and (self._zygote is not None or self._spent):
            self._user = None
            self.close("it was another user's, and a new one is still importing")
            self._begin()
        if self._zygote is None or self._zygote.warm:
            return False
        self._send({"event": "warming", "done": 0, "total": self._zygote.modules})
        return True

    def fork(self, spec: Spec, stdout: int, stderr: int) -> int:
        """As `Zygote.fork`."""
        zygote = self._zygote
        if zygote is None or self._spent:
            raise LaunchError(self.why)
        if not zygote.warm:
            raise LaunchError(zygote.why)
        pid = zygote.fork(spec, stdout, stderr)
        if zygote.once:
            self._spent, self.why = True, ONCE % zygote.once
            self._rebirth.after(SPENT, lambda: self.close(self.why))
        return pid

    def close(self, why: str) -> None:
        """End what is warm or warming, without a word to the controller."""
        self._rebirth.cancel()
        self.why = why
        zygote, self._zygote = self._zygote, None  # first, so that `_changed` knows
        if zygote is not None:
            zygote.close(why)

    def cold(self, why: str) -> None:
        self.why = why
        self._send({"event": "cold", "why": why})

    def _start(
        self,
        base: Spec,
        command: Command,
        modules: list[str],
        preload: Preload,
        extra: dict[str, Any],
    ) -> None:
        self._zygote, self._spent = self._new(), False
        self._user = self.running
        if self.used_since is not None and self._user is None:
            extra = dict(extra, since=self.used_since)
        extra = dict(extra, linger=preload.linger, files=preload.files)
        try:
            self._zygote.start(base, command, modules, preload.timeout, **extra)
        except LaunchError as error:
            self._zygote = None
            self.cold(str(error))
            self._again()  # what was lacking may be there then

    def _adopt(
        self, base: Spec, command: Command, modules: list[str], preload: Preload, kept: Kept
    ) -> bool:
        """Whether it can be: not if it may have imported in a user's time, nor if it is gone."""
        if self.used_since is not None or not self._children.owns(kept[0]["pid"]):
            for fd in kept[1]:
                os.close(fd)  # and so it ends
            return False
        self._zygote, self._spent = self._new(), False
        self._zygote.adopt(base, command, modules, preload.timeout, kept)
        return True

    def _new(self) -> Zygote:
        zygote = Zygote(
            self._loop,
            self._children,
            emit=lambda stream, line: self._send(
                {"event": "output", "stream": stream, "line": line}
            ),
            on_progress=self._progress,
            on_change=lambda: self._changed(zygote),
        )
        return zygote

    def _changed(self, zygote: Zygote) -> None:
        if self._zygote is not zygote:
            return  # closed by us
        if zygote.warm:
            self._warm_since = time.monotonic()
            notes = [ONCE % zygote.once] if zygote.once else []
            self._send(
                {
                    "event": "warm",
                    "modules": zygote.modules,
                    "seconds": zygote.seconds,
                    "notes": notes,
                    **self.worth,
                }
            )
            return
        self._zygote = None
        if zygote.stale and self._on_stale():
            return
        self.cold(zygote.why)
        if zygote.imported:  # the modules are not to blame
            if time.monotonic() - self._warm_since >= HEALTHY:
                self._rebirth.reset()
            self._again()

    def _again(self) -> None:
        if self._begin is not None:
            self._rebirth.soon(self._begin)

    def _progress(self, done: int, total: int) -> None:
        now = time.monotonic()
        if now - self._said >= PROGRESS_INTERVAL:
            self._said = now
            self._send({"event": "warming", "done": done, "total": total})
