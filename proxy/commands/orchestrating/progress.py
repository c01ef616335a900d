"""What an activation is at, on standard error: a line that moves for a person, lines for a log."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from proxy.client import InitClient, InitStatus

# Seconds between two looks at a server without event streams; a person sees it move.
_LOOK: Final = 0.2
# Seconds between two paintings of the line that moves.
_PAINT: Final = 0.1
_ERASE: Final = "\r\x1b[K"

_PHASES: Final = {
    "start": "starting the server",
    "probe": "waiting until it is ready",
    "undo": "cleaning up",
    "backoff": "waiting before another start",
}


class Progress:
    """Reports from entering to leaving; `quiet`: not at all.

    Its own failures are the call's as well, which reports them.
    """

    def __init__(self, client: InitClient, *, quiet: bool) -> None:
        self._client = client
        self._quiet = quiet
        self._moving = sys.stderr.isatty()
        self._begun = time.monotonic()
        self._now = "asking"
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        if not self._quiet:
            self._tasks = [asyncio.create_task(self._follow(), name="progress")]
        if not self._quiet and self._moving:
            self._tasks.append(asyncio.create_task(self._paint(), name="paint"))
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.clear()

    def clear(self) -> None:
        """Make room for other lines."""
        if self._tasks and self._moving:
            self._write(_ERASE)

    def say(self, text: str) -> None:
        """A line that stays, unless it is quiet."""
        if not self._quiet:
            self._write(f"{_ERASE if self._moving else ''}{self.elapsed:6.1f} s  {text}\n")

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._begun

    async def _follow(self) -> None:
        async with aclosing(self._client.changes(details=True, interval=_LOOK)) as changes:
            async for status in changes:
                if status.state == "dormant" and self._now == "asking":
                    continue
                self._now = described(status)
                if not self._moving:
                    self.say(self._now)

    async def _paint(self) -> None:
        while True:
            self._write(f"{_ERASE}{self.elapsed:6.1f} s  {self._now}")
            await asyncio.sleep(_PAINT)

    @staticmethod
    def _write(text: str) -> None:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.write(text)
            sys.stderr.flush()


def described(status: InitStatus) -> str:
    """State and phase, as `initializing: start (starting the server)`."""
    phase = status.details.get("phase")
    if not isinstance(phase, str):
        return status.state
    meaning = f" ({_PHASES[phase]})" if phase in _PHASES else ""
    return f"{status.state}: {phase}{meaning}"


def summary(status: InitStatus) -> str:
    """A status with its details, in a line for a person."""
    details = status.details
    words = []
    since = details.get("since")
    if isinstance(since, int | float):
        words.append(time.strftime("since %Y-%m-%d %H:%M:%S", time.localtime(since)))
    start = details.get("start")
    if isinstance(start, dict):
        why = f" ({start['why']})" if start.get("why") else ""
        words.append(f"{start.get('kind')} start{why}")
    timings = details.get("timings")
    if isinstance(timings, dict) and timings:
        words.append(", ".join(f"{name} {seconds:g} s" for name, seconds in timings.items()))
    if details.get("pid"):
        words.append(f"pid {details['pid']}")
    if details.get("restarts"):
        words.append(f"restarts: {details['restarts']}")
    line = "; ".join([described(status), *words])
    return line if status.error is None else f"{line}\n  error: {status.error}"
