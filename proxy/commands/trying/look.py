"""The server by itself: where it listens, what says that it is ready, how many processes it is."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import tempfile
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Final

import aiohttp

from proxy.commands.trying.listening import listeners
from proxy.errors import ActivationError
from proxy.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.commands.trying.listening import Listener
    from proxy.processes import Process

# Where servers say that they are ready, the surest first; / is what they have if nothing else.
PATHS: Final = (
    *("/ready", "/readyz", "/health/readiness", "/health", "/healthz", "/api/health"),
    *("/healthcheck", "/_stcore/health", "/livez", "/alive", "/ok", "/up", "/ping", "/api/status"),
    *("/status", "/version", "/api", "/mcp", "/"),
)
_OFTEN: Final = 0.05  # seconds between two looks
_ANSWER: Final = 2.0  # seconds for one answer
_SETTLING: Final = 2.0  # seconds in which a better answer may still come than the one there is
_GRACE: Final = 10.0  # seconds from SIGTERM to SIGKILL
_TAIL: Final = 2000  # characters of what it printed, in an error


@dataclass(frozen=True)
class Found:
    """`path` is None when it answers no request sensibly; `seconds` is how long it took."""

    listener: Listener
    path: str | None
    status: int
    seconds: float


async def look(argv: Sequence[str], timeout: float) -> Found:  # noqa: ASYNC109  the error names it
    """Run `argv` until it answers, and end it. Raises `ActivationError`."""
    with tempfile.TemporaryFile() as output:
        try:
            server = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            raise ActivationError(f"cannot start {argv[0]}: {error}") from None
        try:
            async with asyncio.timeout(timeout):
                return await _until_found(server, output)
        except TimeoutError:
            late = f"nothing that {argv[0]} started listens, or answers, within {timeout:g} s"
            raise ActivationError(_with_tail(late, output)) from None
        finally:
            await _end(server)


async def _until_found(server: asyncio.subprocess.Process, output: IO[bytes]) -> Found:
    begun = time.monotonic()
    best: Found | None = None
    answered: float | None = None
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER)) as session:
        while True:
            family = descendants(server.pid)
            for listener in listeners(process.pid for process in family):
                answer = await _best(session, listener.url)
                if answer is None:
                    continue
                now = time.monotonic()
                answered = answered or now
                found = Found(listener, *answer, seconds=round(now - begun, 3))
                best = found if best is None or _worth(found) > _worth(best) else best
            if best is not None and answered is not None:
                settled = time.monotonic() - answered > _SETTLING
                if settled or best.status == 200:
                    return await _counted(server, best)
            if server.returncode is not None:
                why = f"it ended with code {server.returncode} before it answered"
                raise ActivationError(_with_tail(why, output))
            await asyncio.sleep(_OFTEN)


async def _counted(server: asyncio.subprocess.Process, found: Found) -> Found:
    """With as many processes as there are a moment later: workers come after their master."""
    await asyncio.sleep(0.5)
    for listener in listeners(process.pid for process in descendants(server.pid)):
        if listener[:2] == found.listener[:2]:
            return Found(listener, found.path, found.status, found.seconds)
    return found


def _worth(found: Found) -> int:
    return 0 if found.path is None else 2 if found.status == 200 else 1


async def _best(session: aiohttp.ClientSession, url: str) -> tuple[str | None, int] | None:
    """The path that says most, and its status; None while nothing speaks HTTP there."""
    spoke: tuple[str | None, int] | None = None
    for path in PATHS:
        try:
            async with session.get(url + path, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError):
            if spoke is None:  # the others would be told the same
                return None
            continue
        if status == 200:
            return path, status
        if status < 500 and status != 404 and (spoke is None or spoke[0] is None):
            spoke = path, status
        spoke = spoke or (None, status)
    return spoke


def _with_tail(text: str, output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL))
    said = output.read().decode(errors="replace").strip()
    return f"{text}; it printed: {said}" if said else text


async def _end(server: asyncio.subprocess.Process) -> None:
    """End it with everything below it."""
    family = descendants(server.pid)
    _signal([family[0]] if family else [], signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GRACE):
            await server.wait()
    _signal([*family, *descendants(server.pid)], signal.SIGKILL)
    await server.wait()


def _signal(processes: Sequence[Process], number: signal.Signals) -> None:
    for process in processes:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)
