"""The controller's end of the wire: JSON lines, version 1, of `proxy.launcher.session.wire`."""

from __future__ import annotations

import asyncio
import collections
import itertools
import json
import logging
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from proxy.errors import LauncherError, LauncherGoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)

VERSION: Final = 1
# Lines taken in one turn of the event loop: about a millisecond's work.
_AT_ONCE: Final = 16
_COMMAND_LIMIT: Final = 16 * 1024 * 1024  # bytes of one line of ours, as the launcher has it
# Bytes of one line of the launcher's. Its longest gives back the start of what it is running.
_LINE_LIMIT: Final = _COMMAND_LIMIT + 64 * 1024


class Launcher(Protocol):
    """A launcher that can be talked to, wherever it runs."""

    @property
    def pid(self) -> int: ...

    @property
    def reaped(self) -> bool:
        """Whether its pid is no child of ours, or no longer."""

    @property
    def link(self) -> Link: ...

    @property
    def running(self) -> tuple[int, Plan] | None:
        """The pid and the plan of an upstream that it was running when it was met."""

    async def wait(self) -> str:
        """Await its end; returns how it ended ("exited with code 1")."""

    async def end(self) -> None:
        """Have done with it."""


class Link(asyncio.Protocol):
    """One connection to a launcher: `call` operations, events go to `on_event`.

    `closed` is done when the connection has ended, whoever ended it.
    """

    def __init__(self, on_event: Callable[[dict[str, Any]], None]) -> None:
        loop = asyncio.get_running_loop()
        self._on_event = on_event
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._lines: collections.deque[bytearray] = collections.deque()
        self._numbers = itertools.count(1)
        self._calls: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.closed: asyncio.Future[None] = loop.create_future()

    @property
    def connected(self) -> bool:
        """Whether a connection was made, be it over or not: its transport owns the socket."""
        return self._transport is not None or self.closed.done()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if b"\n" not in data:  # not searched again from its begin for every piece of a long line
            if len(self._buffer) > _LINE_LIMIT:
                self.close()
            return
        *lines, self._buffer = self._buffer.split(b"\n")
        idle = not self._lines
        self._lines.extend(lines)
        if idle:
            self._work()

    def _work(self) -> None:
        """Take a few lines, and leave the rest to the next turns of the event loop.

        An upstream may print faster than its lines can be logged; requests come in between.
        """
        for _ in range(min(_AT_ONCE, len(self._lines))):
            self._received(self._lines.popleft())
        if self._transport is None or self._transport.is_closing():
            return
        if self._lines:
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._work)
        else:
            self._transport.resume_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self._transport = None
        while self._lines:  # the last words, the exit among them
            self._received(self._lines.popleft())
        for reply in self._calls.values():
            if not reply.done():
                reply.set_exception(LauncherGoneError("cannot reach the launcher: it is gone"))
        if not self.closed.done():
            self.closed.set_result(None)

    async def call(self, op: str, **fields: Any) -> dict[str, Any]:
        """Send an operation and await its answer.

        Cancelling the wait does not take the operation back. Raises `LauncherError` with the
        launcher's own words.
        """
        if self._transport is None:
            raise LauncherError(f"cannot {op}: the launcher is gone")
        number = next(self._numbers)
        message = {"id": number, "op": op, "version": VERSION, **fields}
        line = json.dumps(message).encode() + b"\n"
        if len(line) > _COMMAND_LIMIT:
            raise LauncherError(f"cannot {op}: {len(line)} bytes are too many for the launcher")
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._calls[number] = reply
        self._transport.write(line)
        try:
            answer = await reply
        finally:
            del self._calls[number]
        if not answer.get("ok"):
            raise LauncherError(str(answer.get("error", f"cannot {op}: the launcher refused")))
        return answer

    def close(self) -> None:
        """End the connection; what was sent before still arrives."""
        if self._transport is not None:
            self._transport.close()

    def _received(self, line: bytearray) -> None:
        try:
            message = json.loads(line)
            if "event" in message:
                self._on_event(message)
                return
            reply = self._calls.get(message.get("id"))
        except Exception as error:  # noqa: BLE001  whatever it said, the link ends and is replaced
            # Not a launcher, or one of another world. (No traceback: it could quote the line.)
            logger.error(  # noqa: TRY400  as the comment says
                "cannot understand the launcher", extra={"fault": type(error).__name__}
            )
            self.close()
            return
        # An answer nobody awaits belongs to a call that was cancelled.
        if reply is not None and not reply.done():
            reply.set_result(message)
