"""Launchers in another container, over a socket on a shared volume.

Everything is said as to a launcher of our own; what differs is its life. It is there before us or
after us, outlives us, and may have an upstream running that a predecessor of ours has started. When
its container restarts we wait for the next one.

Where we meet, at `launcher.socket`, code of the agent's can take the launcher's place; what keeps
it out is told in `proxy.launcher.session.listen`. Our part: a socket of our own at
`launcher.token`, where no agent can reach, is handed to a launcher once. As long as somebody
answers there it is that launcher, and nothing that anybody says at the other socket is listened to.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.launched.link import VERSION, Link
from proxy.activation.launched.messages import started_plan
from proxy.errors import LauncherError, LauncherGoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.launched.link import Launcher
    from proxy.activation.launched.runs import Runs
    from proxy.lifecycle.plan import Plan

logger = logging.getLogger(__name__)

_POLL: Final = 0.05  # seconds between looks for a socket that is not there yet
_ANSWER_LIMIT: Final = 10.0  # seconds for a launcher to greet
# Times that a connection may end before the launcher has greeted. The dying end them so, for a
# moment, and one that has not yet noticed our predecessor's end; another one does it for ever.
_HANG_UPS: Final = 40
_BACKLOG: Final = 8  # only we connect


class RemotePlace:
    """The `Place` for `upstream.activation: launcher`: where all meet, and where only we do."""

    apart = True

    def __init__(self, path: str, own: str) -> None:
        self._path = path
        self._own = own

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()

    async def launch(self, on_event: Callable[[dict[str, Any]], None]) -> RemoteLauncher:
        """Wait for a launcher to be there."""
        waited = False
        hung_up = 0
        while True:
            launcher = RemoteLauncher(self._own, on_event)
            try:
                await self._greeted(launcher)
                if launcher.running is None:
                    # What a predecessor's upstream has left, if any.
                    await launcher.link.call("stop", grace=0)
            except (
                ConnectionError,
                FileNotFoundError,
                BlockingIOError,  # it is there, with others waiting before us
                LauncherGoneError,
            ) as error:
                hung_up = hung_up + 1 if isinstance(error, LauncherGoneError) else 0
                if hung_up > _HANG_UPS:
                    raise
                if not waited:
                    logger.info("waiting for the launcher", extra={"socket": self._path})
                waited = True
                await asyncio.sleep(_POLL)
            except BaseException:
                await launcher.end()
                raise
            else:
                break
        logger.info("launcher found", extra={"launcher": launcher.pid, "python": launcher.python})
        return launcher

    async def _greeted(self, launcher: RemoteLauncher) -> None:
        try:
            await launcher.connect()
        except (ConnectionRefusedError, FileNotFoundError):
            # Nobody has our socket: the launcher that had it has ended, with all of its container.
            await _introduce(self._path, self._own)
            await launcher.connect()

    async def bury(self, launcher: Launcher, _runs: Runs) -> str:
        """Everything in its container ends with it."""
        return await launcher.wait()


class RemoteLauncher:
    """A connection to a launcher that runs elsewhere; as `own.process.LauncherProcess` is used."""

    reaped = True

    def __init__(self, path: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._on_event = on_event
        self.link = Link(self._event)
        self.pid = 0  # in its own pid namespace
        self.python = ""
        self.running: tuple[int, Plan] | None = None

    async def connect(self) -> None:
        """Learn what it is running.

        Raises `OSError` when nobody listens, `LauncherGoneError` when it hangs up unasked or has
        another controller, `LauncherError` when it cannot be used.
        """
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self.link, self._path)
        first: list[asyncio.Future[Any]] = [self._hello, self.link.closed]
        await asyncio.wait(first, timeout=_ANSWER_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        if not self._hello.done():
            fault = LauncherGoneError if self.link.closed.done() else LauncherError
            raise fault("cannot use the launcher: no hello")
        hello = self._hello.result()
        if hello["event"] == "refused":
            raise LauncherGoneError(f"cannot use the launcher: {hello['why']}")
        if hello.get("version") != VERSION:
            raise _unknown_version(hello)
        self.pid, self.python = int(hello["pid"]), str(hello["python"])
        if hello["running"] is not None:
            self.running = hello["running"]["pid"], started_plan(hello["running"]["start"])

    async def wait(self) -> str:
        await asyncio.shield(self.link.closed)
        return "has gone with its container"

    async def end(self) -> None:
        """Hang up; the launcher stays."""
        self.link.close()

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] not in {"hello", "refused"}:
            self._on_event(message)
        elif not self._hello.done():
            self._hello.set_result(message)


async def _introduce(path: str, own: str) -> None:
    """Give the launcher at `path` a socket that listens at `own`, for this container's eyes only.

    It is ours to replace what stands at `own`: nobody answers there. Raises `OSError` when no
    launcher is there, `LauncherGoneError` when it hangs up, `LauncherError` when it refuses.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.setblocking(False)
        connection.connect(path)
        with _listening(own) as listener:
            line = json.dumps({"op": "identify", "version": VERSION}).encode() + b"\n"
            socket.send_fds(connection, [line], [listener.fileno()])
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_ANSWER_LIMIT):
                said = await loop.sock_recv(connection, 4096)
        except TimeoutError:
            raise LauncherError(f"cannot use the launcher at {path}: no answer") from None
    if not said:
        raise LauncherGoneError(f"cannot use the launcher at {path}: no answer")
    try:
        answer = json.loads(said)
        refusal = None if answer["ok"] else str(answer["error"])
    except (ValueError, TypeError, KeyError):
        raise LauncherError(f"cannot use the launcher at {path}: it is none") from None
    if refusal is not None:
        raise LauncherError(f"cannot use the launcher at {path}: {refusal}")


def _listening(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        Path(path).unlink(missing_ok=True)
        os.fchmod(listener.fileno(), 0o600)  # the mode that bind(2) gives the file
        listener.bind(path)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise LauncherError(f"cannot make the socket {path}: {error.strerror or error}") from None
    return listener


def _unknown_version(hello: dict[str, Any]) -> LauncherError:
    return LauncherError(
        f"cannot use the launcher: it speaks version {hello.get('version')}, not {VERSION}"
    )
