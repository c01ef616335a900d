"""What the readiness probe asks: one GET on a connection of its own, or the connection alone."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiohttp

from proxy.activation.readiness.door import Door
from proxy.errors import cause_of
from proxy.settings.values import statuses_of

if TYPE_CHECKING:
    import re

    from proxy.settings import ReadySettings, ServerUrl

# Bytes of an answer's body that are heard; and seconds, when the status says everything.
_HEARD: Final = 64 * 1024
_HEARING: Final = 0.1


@dataclass(frozen=True)
class Failure:
    """Why an attempt did not pass; `refused` when that was for nobody listening."""

    why: str
    refused: bool = False


class Question:
    """Asks the upstream at `url` what `ready` says."""

    def __init__(self, url: ServerUrl, ready: ReadySettings) -> None:
        self.target = f"{url.base}{ready.path}" if ready.path is not None else str(url)
        self._ready = ready
        self._statuses = statuses_of(ready.statuses)
        self._door = Door(url.base, url.socket_path)
        self._timeout = aiohttp.ClientTimeout(total=ready.timeout)

    async def ask(self) -> Failure | None:
        """Once, for `ready.timeout` at most; None when that passes."""
        try:
            async with asyncio.timeout(self._ready.timeout):
                if self._ready.path is None:
                    await self._door.knock()
                    return None
                connector = await self._door.connector()
            return await self._get(connector)
        except TimeoutError:
            return Failure(f"{self.target} did not answer within {self._ready.timeout} s")
        except OSError as error:
            # Also aiohttp's errors of connecting.
            refused = isinstance(error, (ConnectionRefusedError, FileNotFoundError))
            return Failure(f"cannot reach {self.target}: {cause_of(error)}", refused)
        except (aiohttp.ClientError, ValueError) as error:
            # Their texts quote what was answered, and this one is told to everybody.
            name = type(error).__name__
            return Failure(f"cannot reach {self.target}: no HTTP answer ({name})")

    async def _get(self, connector: aiohttp.BaseConnector) -> Failure | None:
        ready = self._ready
        async with (
            aiohttp.ClientSession(connector=connector, timeout=self._timeout) as session,
            session.get(self.target, headers=ready.headers, allow_redirects=False) as answer,
        ):
            if answer.status not in self._statuses:
                await _hear_out(answer)
                return Failure(f"{self.target} answered {answer.status}")
            if ready.body is None:
                await _hear_out(answer)
            elif not await _says(answer, ready.body):
                return Failure(
                    f"{self.target} answered {answer.status} without upstream.ready.body"
                )
            return None


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


async def _says(answer: aiohttp.ClientResponse, pattern: re.Pattern[str]) -> bool:
    """Whether the body has it, which may be known before a stream ends."""
    heard = bytearray()
    async for data in answer.content.iter_any():
        heard += data
        if pattern.search(heard[:_HEARD].decode("utf-8", "replace")):
            await _hear_out(answer)
            return True
        if len(heard) >= _HEARD:
            return False
    return False
