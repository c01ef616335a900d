"""Launchers in another container, over a socket on a shared volume.

Everything is said as to a launcher of our own; what differs is its life. It is there before us or
after us, outlives us, and may have an upstream running that a predecessor of ours has started. When
its container restarts we wait for the next one. How each side proves itself to the other is told in
`proxy.launcher.session.listen`.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import os
import secrets
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
_ANSWER_LIMIT: Final = 10.0  # seconds for a launcher to greet and to prove itself
# Times that a connection may end before the launcher has proved itself. The dying end them so, for
# a moment; one that takes us for a stranger does it for ever.
_HANG_UPS: Final = 40
_TOKEN_BYTES: Final = 32


class RemotePlace:
    """The `Place` for `upstream.activation: launcher`: a socket, and the token's file."""

    returns = True  # with its container

    def __init__(self, socket: str, token: str) -> None:
        self._socket = socket
        self._token_file = Path(token)

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()

    async def launch(self, on_event: Callable[[dict[str, Any]], None]) -> RemoteLauncher:
        """Wait for a launcher to be there."""
        token = _token(self._token_file)
        waited = False
        hung_up = 0
        while True:
            launcher = RemoteLauncher(self._socket, on_event)
            try:
                await launcher.connect_with(token)
                if launcher.running is None:
                    # What a predecessor's upstream has left, if any.
                    await launcher.link.call("stop", grace=0)
            except (ConnectionError, FileNotFoundError, LauncherGoneError) as error:
                hung_up = hung_up + 1 if isinstance(error, LauncherGoneError) else 0
                if hung_up > _HANG_UPS:
                    raise
                if not waited:
                    logger.info("waiting for the launcher", extra={"socket": self._socket})
                waited = True
                await asyncio.sleep(_POLL)
            except BaseException:
                await launcher.end()
                raise
            else:
                break
        logger.info("launcher found", extra={"launcher": launcher.pid, "python": launcher.python})
        return launcher

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

    async def connect_with(self, token: bytes) -> None:
        """Prove ourselves to each other, and learn what it is running.

        Raises `OSError` when nobody listens, `LauncherGoneError` when it hangs up unasked,
        `LauncherError` when it is not to be trusted or does not trust us.
        """
        await asyncio.get_running_loop().create_unix_connection(lambda: self.link, self._path)
        first: list[asyncio.Future[Any]] = [self._hello, self.link.closed]
        await asyncio.wait(first, timeout=_ANSWER_LIMIT, return_when=asyncio.FIRST_COMPLETED)
        if not self._hello.done():
            fault = LauncherGoneError if self.link.closed.done() else LauncherError
            raise fault(f"cannot use the launcher at {self._path}: no hello")
        hello = self._hello.result()
        if hello.get("version") != VERSION:
            raise LauncherError(
                f"cannot use the launcher at {self._path}: it speaks version"
                f" {hello.get('version')}, not {VERSION}"
            )
        self.pid, self.python = int(hello["pid"]), str(hello["python"])
        challenge = secrets.token_bytes(16)
        proof = _prove(token, b"controller", bytes.fromhex(hello["challenge"])).hex()
        shown = {"proof": proof} if hello["bound"] else {"token": token.hex()}
        async with asyncio.timeout(_ANSWER_LIMIT):
            answer = await self.link.call("identify", challenge=challenge.hex(), **shown)
        expected = _prove(token, b"launcher", challenge).hex()
        if not hmac.compare_digest(expected, str(answer.get("proof"))):
            raise LauncherError(f"cannot use the launcher at {self._path}: it has another token")
        if answer["pid"] is not None:
            self.running = answer["pid"], started_plan(answer["start"])

    async def wait(self) -> str:
        await asyncio.shield(self.link.closed)
        return "has gone with its container"

    async def end(self) -> None:
        """Hang up; the launcher stays."""
        self.link.close()

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] != "hello":
            self._on_event(message)
        elif not self._hello.done():
            self._hello.set_result(message)


def _token(file: Path) -> bytes:
    """The pod's token; made, for this container's eyes only, when it is not there."""
    try:
        token = bytes.fromhex(file.read_text())
    except FileNotFoundError:
        token = secrets.token_bytes(_TOKEN_BYTES)
        part = file.with_name(f".{file.name}.part")
        try:
            part.unlink(missing_ok=True)
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "w") as opened:  # noqa: PTH123  a descriptor, for its mode
                opened.write(token.hex())
            part.rename(file)
        except OSError as error:
            raise LauncherError(f"cannot make the token {file}: {error.strerror}") from None
    except (OSError, ValueError) as error:
        raise LauncherError(f"cannot read the token {file}: {error}") from None
    return token


def _prove(token: bytes, role: bytes, challenge: bytes) -> bytes:
    return hmac.new(token, role + b"\0" + challenge, hashlib.sha256).digest()
