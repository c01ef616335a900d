"""Starts upstreams through a launcher in another container, over a socket on a shared volume.

Everything is said as to a launcher of our own (`spawn`); what differs is its life. It is there
before us or after us, outlives us, and may have an upstream running that a predecessor of ours has
started: that one is found. When its container restarts we wait for the next one. How each side
proves itself to the other is told in `proxy.launcher.session.listen`.
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
from proxy.activation.launched.messages import start_fields, started_plan
from proxy.activation.launched.starter import SpawnStarter
from proxy.activation.starter import Found, Started
from proxy.activation.tasks import failed
from proxy.errors import LauncherError, LauncherGoneError

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.activation.launched.link import Launcher
    from proxy.lifecycle.plan import Plan
    from proxy.settings import UpstreamSettings

logger = logging.getLogger(__name__)

_POLL: Final = 0.05  # seconds between looks for a socket that is not there yet
_ANSWER_LIMIT: Final = 10.0  # seconds for a launcher to greet and to prove itself
# Times that a connection may end before the launcher has proved itself. The dying end them so, for
# a moment; one that takes us for a stranger does it for ever.
_HANG_UPS: Final = 40
_TOKEN_BYTES: Final = 32


class RemoteStarter(SpawnStarter):
    """The `Starter` for `upstream.activation: launcher`."""

    def __init__(
        self,
        upstream: UpstreamSettings,
        *,
        on_output: Callable[[str, str, bool], None],
        on_warming: Callable[[int, int], None],
        on_leaving: Callable[[], None],
    ) -> None:
        super().__init__(upstream, on_output=on_output, on_warming=on_warming, environ={})
        self._on_leaving = on_leaving
        self._socket = upstream.launcher.socket or ""
        self._token_file = Path(upstream.launcher.token or "")
        self._closing = False

    def owned_pids(self) -> frozenset[int]:
        """No child of the proxy's is waited for here."""
        return frozenset()

    async def close(self) -> None:
        self._closing = True
        await super().close()

    def _start_fields(self, plan: Plan) -> dict[str, Any]:
        # A proxy that takes over must mask as this one did.
        return start_fields(plan) | {
            "secrets": sorted(plan.secrets),
            "session_keys": list(plan.session_keys),
        }

    async def _launch(self) -> RemoteLauncher:
        """Wait for a launcher to be there; note what it is running."""
        token = _token(self._token_file)
        waited = False
        hung_up = 0
        while True:
            launcher = RemoteLauncher(self._socket, self._event)
            try:
                state = await launcher.connect_with(token)
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
        self._launcher = launcher
        if state["pid"] is not None:
            self._find(state["pid"], started_plan(state["start"]))
        else:
            # What a predecessor's upstream has left, if any.
            await launcher.link.call("stop", grace=0)
        return launcher

    def _find(self, pid: int, plan: Plan) -> None:
        self._plan = plan
        started = Started(
            pid=pid, kind="cold", why="it was running already", exited=self._exited(pid)
        )
        self.found = Found(plan=plan, started=started)

    async def _watch(self, launcher: Launcher) -> None:
        """See the launcher's end, with which everything in its container ends."""
        how = await launcher.wait()
        self._launcher = self._opening = None
        self._lose(f"the launcher {how}")
        if not self._closing:
            # The container's next life: warm again before anybody asks.
            self._opening = asyncio.create_task(self._open(), name="open launcher")
            self._opening.add_done_callback(_report)

    def _warm(self, why_not: str | None) -> None:
        # Until the running one was taken over (or given up), nobody may be told to go ahead.
        if self.found is None:
            super()._warm(why_not)

    def _event(self, message: dict[str, Any]) -> None:
        if message["event"] == "leaving":
            self._on_leaving()
        else:
            super()._event(message)


def _report(opening: asyncio.Task[None]) -> None:
    """Tell a failure that nobody may be waiting for; the next init tries again."""
    if failed(opening) and not opening.cancelled():
        logger.error("cannot use the launcher", extra={"error": str(opening.exception())})


class RemoteLauncher:
    """A connection to a launcher that runs elsewhere; as `process.LauncherProcess` is used."""

    reaped = True

    def __init__(self, path: str, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._path = path
        self._hello: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._on_event = on_event
        self.link = Link(self._event)
        self.pid = 0  # in its own pid namespace
        self.python = ""

    async def connect_with(self, token: bytes) -> dict[str, Any]:
        """What it is running: `pid` and `start`, both None when nothing.

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
        return answer

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
