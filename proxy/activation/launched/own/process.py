"""The launcher as a child process: started, watched and ended by its pid alone."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import signal
import socket
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.activation.launched.link import VERSION, Link
from proxy.errors import LauncherError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LAUNCHER: Final = Path(__file__).resolve().parents[3] / "launcher" / "__main__.py"
# -I -S: nothing of the user's or the site's is imported, which keeps it small and safe. utf8: the
# bytes of names and paths are the same for the launcher and the upstream, whatever the locale.
_FLAGS: Final = ("-I", "-S", "-X", "utf8")

_HELLO_LIMIT: Final = 10.0  # seconds for an interpreter to show that it can run the launcher
_LEAVE_LIMIT: Final = 2.0  # seconds to end after each way of asking
_REAP_POLL: Final = 0.005  # seconds; the connection ends a moment before the process


# Before the proxy raises its own: a server that uses select(2) relies on the limit it was given.
_DESCRIPTORS: Final = resource.getrlimit(resource.RLIMIT_NOFILE)


class LauncherProcess:
    """A launcher that has said hello. `link` is the connection to it."""

    running = None  # it ends with us

    def __init__(
        self,
        executable: str,
        environ: Mapping[str, str],
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        """Start it at once. Raises `OSError` when `executable` cannot be run.

        It has a session of its own, so that a Ctrl-C in the proxy's terminal reaches only the
        proxy, which drains first.
        """
        self._hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._on_event = on_event
        self.executable = executable
        self.link = Link(self._event)
        self._ours, theirs = socket.socketpair()
        with theirs:
            number = theirs.fileno()
            try:
                self._process = subprocess.Popen(  # noqa: S603  the operator's own command
                    [executable, *_FLAGS, str(LAUNCHER), "--fd", str(number)],
                    env=environ,
                    pass_fds=(number,),
                    stdin=subprocess.DEVNULL,
                    stdout=2,  # its own complaints; an upstream has pipes
                    start_new_session=True,
                )
            except OSError:
                self._ours.close()
                raise
        # A launcher that is gone by now says so soon enough.
        with contextlib.suppress(ProcessLookupError):
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, _DESCRIPTORS)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def reaped(self) -> bool:
        """Whether it has ended and was waited for: its pid is no longer its own."""
        return self._process.returncode is not None

    async def connect(self, limit: float = _HELLO_LIMIT) -> dict[str, Any]:
        """Await its hello, at most `limit` seconds. Raises `LauncherError`; `end` it then."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: self.link, sock=self._ours)
        first: list[asyncio.Future[Any]] = [self._hello, self.link.closed]
        await asyncio.wait(first, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        if not self._hello.done():
            raise LauncherError(f"cannot start the launcher with {self.executable}: no hello")
        hello = self._hello.result()
        if hello.get("version") != VERSION:
            raise LauncherError(
                f"cannot use the launcher of {self.executable}: it speaks version"
                f" {hello.get('version')}, not {VERSION}"
            )
        return hello

    async def wait(self) -> str:
        """Await its end; returns how it ended ("exited with code 1")."""
        await asyncio.shield(self.link.closed)
        if not await self._gone():
            await self.end()  # it has closed its end and lives on: of no more use
        code = self._process.returncode or 0
        if code < 0:
            return f"was killed by {_signal_name(-code)}"
        return f"exited with code {code}"

    async def end(self) -> None:
        """End it: by closing the connection, then TERM, then KILL."""
        if self.link.connected:
            self.link.close()
        else:
            self._ours.close()
        if not await self._gone():
            self._process.terminate()
            if not await self._gone():
                self._process.kill()
                await self._gone()

    async def _gone(self) -> bool:
        """Whether it has ended, now or within the limit. Waits for its pid and for no other."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _LEAVE_LIMIT
        while self._process.poll() is None:
            if loop.time() >= deadline:
                return False
            await asyncio.sleep(_REAP_POLL)
        return True

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] != "hello":
            self._on_event(message)
        elif not self._hello.done():
            self._hello.set_result(message)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
