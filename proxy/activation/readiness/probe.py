"""The readiness probe: one GET on a connection of its own, and waiting until it passes.

Many callers may ask at once (every kubelet probe of `/ready` does): one probe runs, the others
await its result, so that the upstream sees no more probes than one caller would send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from proxy.activation.readiness.door import Door
from proxy.errors import ActivationError, cause_of

if TYPE_CHECKING:
    from collections.abc import Collection

    from proxy.activation.starter import Exit

logger = logging.getLogger(__name__)

# Seconds between two attempts while nobody listens.
_GLANCE: Final = 0.002
# Bytes and seconds of an answer's body that are heard, though the status says everything.
_HEARD: Final = 64 * 1024
_HEARING: Final = 0.1


class Probe:
    """Asks `path` of the upstream; passes when the status is one of `statuses`.

    `interval` and `timeout` are seconds: between two answers, and for one whole attempt.
    `socket_path` is the upstream's Unix socket, or None when `base` names a TCP address.
    """

    def __init__(
        self,
        *,
        base: str,
        socket_path: str | None,
        path: str,
        statuses: Collection[int],
        interval: float,
        timeout: float,
    ) -> None:
        self._url = base + path
        self._door = Door(base, socket_path)
        self._statuses = frozenset(statuses)
        self._interval = interval
        self._timeout = aiohttp.ClientTimeout(total=timeout)
        self.last_failure: str | None = None  # why the most recent waiting attempt failed
        self._refused = False  # whether that was for nobody listening
        self._running: asyncio.Task[str | None] | None = None

    async def check(self) -> str | None:
        """One attempt, shared by everybody who asks meanwhile; None, or why it did not pass."""
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._attempt(), name="readiness probe")
        return await asyncio.shield(self._running)

    async def wait(self, exited: asyncio.Future[Exit]) -> None:
        """Return as soon as an attempt passes.

        Raises `ActivationError` when the upstream dies first. Has no deadline of its own.
        """
        attempts = 0
        waiting = asyncio.create_task(self._until_passed(), name="readiness wait")
        try:
            both: set[asyncio.Future[Any]] = {waiting, exited}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                end = exited.result()
                raise ActivationError(f"the upstream {end.reason} before it was ready")
            attempts = waiting.result()
        finally:
            waiting.cancel()
        logger.debug("readiness probe passed", extra={"attempts": attempts})

    async def _until_passed(self) -> int:
        attempts = 0
        while True:
            attempts += 1
            self._refused = False
            why = await self._attempt()
            if why is None:
                return attempts
            self.last_failure = why
            await asyncio.sleep(min(_GLANCE, self._interval) if self._refused else self._interval)

    async def _attempt(self) -> str | None:
        total = self._timeout.total
        try:
            async with asyncio.timeout(total):
                connector = await self._door.connector()
            async with (
                aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
                session.get(self._url, allow_redirects=False) as answer,
            ):
                await _hear_out(answer)
                if answer.status in self._statuses:
                    return None
                return f"{self._url} answered {answer.status}"
        except TimeoutError:
            return f"{self._url} did not answer within {total} s"
        except OSError as error:
            # Also aiohttp's errors of connecting.
            self._refused = isinstance(error, (ConnectionRefusedError, FileNotFoundError))
            return f"cannot reach {self._url}: {cause_of(error)}"
        except (aiohttp.ClientError, ValueError) as error:
            # Their texts quote what was answered, and this one is told to everybody.
            return f"cannot reach {self._url}: no HTTP answer ({type(error).__name__})"


async def _hear_out(answer: aiohttp.ClientResponse) -> None:
    """Let the upstream finish its sentence: one that is cut short may fill its log with that."""
    size = 0
    # What breaks or never ends changes nothing: the status was said.
    with contextlib.suppress(aiohttp.ClientError, OSError):  # TimeoutError is an OSError
        async with asyncio.timeout(_HEARING):
            async for data in answer.content.iter_any():
                size += len(data)
                if size > _HEARD:
                    return
