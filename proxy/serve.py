"""The composition root: builds every part, wires them, and owns their lifetimes.

`Server.__init__` is the whole house on one screen; nothing else in the project knows more than
one floor.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import platform
import signal
import socket
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import uvloop
from aiohttp import web

from proxy import __version__, process
from proxy.activation.probe import Probe
from proxy.activation.transaction import Activator
from proxy.admin import open_admin
from proxy.control import page
from proxy.control.app import ControlPlane
from proxy.control.handler import Handler
from proxy.control.watch import Watch
from proxy.early import STOP_SIGNALS, remembered_signals
from proxy.errors import ProxyError
from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.gate import Verdict, decide
from proxy.lifecycle.plan import build_plan
from proxy.lifecycle.redact import Redactor
from proxy.lifecycle.state import Event, Lifecycle, State
from proxy.listen import BACKLOG, bound_address, identity, open_listener
from proxy.relay import Refusal, Relay
from proxy.relay.accesslog import AccessLog
from proxy.relay.refusals import plain_refusal
from proxy.relay.sessionkeys import SessionKeys
from proxy.relay.tally import Tally
from proxy.settings import UnixAddress
from proxy.starters import make_starter
from proxy.upstreamlog import UpstreamLog

if TYPE_CHECKING:
    from proxy.activation.starter import Found
    from proxy.admin import Admin, Page
    from proxy.lifecycle.plan import Plan
    from proxy.log import Log
    from proxy.relay.head import RequestHead
    from proxy.settings import Settings

logger = logging.getLogger(__name__)

# Files that are open whatever clients do: the loop's, the listeners', the launcher's, the log's.
_OWN_DESCRIPTORS: Final = 64
# Seconds for the last bytes of a stopped upstream (WebSocket close frames) to reach the clients.
_LAST_BYTES: Final = 1.0


def run_server(settings: Settings, log: Log) -> int:
    """Serve until told to stop; returns the process's exit code."""
    process.protect()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings, log))


async def _serve(settings: Settings, log: Log) -> int:
    return await Server(settings, log).run()


class Server:
    """One proxy: one listener, one upstream, one life cycle."""

    def __init__(self, settings: Settings, log: Log) -> None:
        upstream = settings.upstream
        self._settings = settings
        self._log = log
        self._run_dir = upstream.run_dir or _private_run_dir()
        key = settings.init.key
        self._own_secrets = frozenset({key.get_secret_value()} if key is not None else ())
        log.mask = Redactor(self._own_secrets)
        self._preloaded: tuple[int, int] = (0, 0)  # modules: imported, of all
        self._stop: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # From the inside out: the state first, because everybody reads it ...
        self._lifecycle = Lifecycle(State.WARMING if upstream.warms else State.DORMANT, self._facts)
        self._watch = Watch(self._lifecycle, self._details)
        # ... then what brings an upstream up and keeps it up ...
        self._upstream_log = UpstreamLog()
        self._starter = make_starter(
            upstream,
            on_output=self._upstream_log,
            on_warming=self._warming,
            on_leaving=self._leaving,
        )
        # Before an init may wait for it as well: the state must have changed by then.
        self._starter.warmed.add_done_callback(self._warmed)
        self._probe = Probe(
            base=upstream.url.base,
            socket_path=upstream.url.socket_path,
            path=upstream.ready.path,
            statuses=upstream.ready.statuses,
            interval=upstream.ready.interval,
            timeout=upstream.ready.timeout,
        )
        self._activator = Activator(
            lifecycle=self._lifecycle,
            starter=self._starter,
            probe=self._probe,
            timeout=settings.init.timeout,
            on_exit=upstream.on_exit,
            on_plan=self._planned,
            mask=log.masked,
            on_fatal=self._ask_to_stop,
            on_phase=self._watch.progressed,
        )
        # ... then who answers for the proxy itself ...
        self._control = web.AppRunner(
            ControlPlane(
                lifecycle=self._lifecycle,
                watch=self._watch,
                activation=self._activator,
                deferred=settings.deferred_init,
                key=key.get_secret_value() if key is not None else None,
                plan=self._plan,
                probe=self._probe.check,
            ).application(),
            # A watcher that hangs up is forgotten. (An activation does not hang on its poster.)
            handler_cancellation=True,
            shutdown_timeout=_LAST_BYTES,
        )
        # ... and last the relay, which is the only one to face the network.
        self._keys_at_gate = settings.gate.session_keys == "enforce"
        self._session_keys = SessionKeys()
        self._holds = settings.gate.hold > 0
        self._open_paths = frozenset(path.encode() for path in settings.gate.open_paths)
        self._tally = Tally()
        self._relay = Relay(
            gate=self._gate,
            dial=upstream.url.address,
            control=self._connect_control,
            refuse=self._refuse,
            limits=settings.limits,
            trusted_proxies=settings.listen.trusted_proxies,
            hold=settings.gate.hold,
            admits=self._admits if self._keys_at_gate else None,
            strip_session_keys=settings.gate.strip_session_keys,
            tally=self._tally if settings.listen.admin is not None else None,
            access=_access_log(settings.log.access),
        )
        self._lifecycle.subscribe(self._state_changed)
        self._listener: asyncio.Server | None = None
        self._socket_file: tuple[int, int] | None = None
        self._admin: Admin | None = None
        self._cut = asyncio.Event()

    async def run(self) -> int:
        """Serve; returns the exit code once everything is closed."""
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        for early in remembered_signals():
            self._signalled(early)
        process.adopt_orphans()
        # Beside a client's connection may be one to the upstream and a pair to the control plane.
        process.allow_descriptors(4 * self._settings.limits.connections + _OWN_DESCRIPTORS)
        process.Reaper(loop, self._starter.owned_pids).attach()
        try:
            code = await self._until_stopped()
        except ProxyError as error:
            logger.critical("cannot serve", extra={"error": str(error)})
            code = 1
        await self._close()
        process.let_nothing_disturb_the_end(loop)
        return code

    # Boot

    async def _until_stopped(self) -> int:
        await self._control.setup()
        if self._stop.done():  # by a signal that came while we were imported
            return self._stop.result()
        # Before the launcher: `/health` must answer at once, whatever warming takes.
        await self._listen()
        self._admin = await open_admin(self._settings.listen, self._admin_pages)
        if self._admin is None:
            self._relay.count_no_more()
        opening = asyncio.create_task(self._open(), name="open")
        code = await self._stop
        opening.cancel()
        return code

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        address = self._settings.listen.address
        sock = open_listener(address)
        if isinstance(address, UnixAddress):
            self._socket_file = identity(address.path)
        create = loop.create_unix_server if sock.family == socket.AF_UNIX else loop.create_server
        # The loop listens once more, by itself with a queue for 100.
        self._listener = await create(self._relay, sock=sock, backlog=BACKLOG)
        logger.info(
            "listening",
            extra={
                "address": bound_address(sock),
                "version": __version__,
                "pid": os.getpid(),
            },
        )

    def _admin_pages(self) -> dict[str, Page]:
        # Here, because prometheus-client takes a while to import and `/health` is up already.
        from proxy.control import openapi  # noqa: PLC0415
        from proxy.control.metrics import Metrics  # noqa: PLC0415

        metrics = Metrics(
            lifecycle=self._lifecycle,
            traffic=self._relay,
            tally=self._tally,
            details=self._details,
            exit_code=self._exit_code,
            preload=lambda: self._preloaded,
            build={"version": __version__, "python": platform.python_version()},
        )
        return {"/metrics": metrics.answer, "/openapi.json": openapi.answer}

    async def _open(self) -> None:
        try:
            await self._starter.open()
            if self._starter.found is not None:
                await self._adopt(self._starter.found)
                return
            if not self._settings.deferred_init:
                await self._activator.run(self._plan(InitRequest()))
        except ProxyError as error:
            logger.critical("cannot start", extra={"error": str(error)})
            self._ask_to_stop(1)
        except Exception:
            logger.exception("cannot start")
            self._ask_to_stop(1)

    async def _adopt(self, found: Found) -> None:
        await self._activator.adopt(found)
        if not self._starter.warmed.done():  # whoever waits for it is told what has become of it
            self._starter.warmed.set_result(None)

    def _warmed(self, warmed: asyncio.Future[str | None]) -> None:
        if self._lifecycle.state is State.WARMING and not warmed.cancelled():
            self._lifecycle.apply(Event.WARMED)

    # What the parts ask of each other

    def _gate(self, _method: bytes, target: bytes) -> Verdict:
        return decide(self._lifecycle.state, target, self._open_paths, hold=self._holds)

    def _admits(self, head: RequestHead) -> bool:
        # Before an init nobody has a key: a path that is open then is open to everybody.
        open_path = head.target.partition(b"?")[0] in self._open_paths
        return open_path or self._session_keys.admits(head)

    def _state_changed(self, state: State, _event: Event) -> None:
        if state is State.DORMANT:
            self._session_keys = SessionKeys()  # whom they were given to has gone
        self._relay.reconsider()

    def _refuse(self, verdict: Verdict, head: RequestHead) -> Refusal:
        wants_page = page.wants_page(head.method, head.field(b"accept"))
        if verdict is Verdict.UNAUTHORIZED or not wants_page:
            return plain_refusal(verdict, head)
        state, error = self._lifecycle.state, self._lifecycle.error
        text = page.waiting_page(state, error, deferred=self._settings.deferred_init)
        return Refusal(text, page.CONTENT_TYPE, page.page_headers())

    async def _connect_control(self, sock: socket.socket) -> None:
        server = self._control.server
        if server is None:
            raise ProxyError("the control plane is not running")
        limits = self._settings.limits
        handler = functools.partial(
            Handler,
            server,
            head_size=limits.head_size,
            header_count=limits.header_count,
            idle=limits.idle_timeout,
        )
        await asyncio.get_running_loop().connect_accepted_socket(handler, sock)

    def _plan(self, request: InitRequest) -> Plan:
        return build_plan(
            self._settings.upstream,
            request,
            run_dir=self._run_dir,
            keys_at_gate=self._keys_at_gate,
        )

    def _planned(self, plan: Plan) -> None:
        if self._keys_at_gate:
            self._session_keys = SessionKeys(plan.session_keys)
        self._upstream_log.arm(plan.secrets)
        self._log.mask = Redactor(plan.secrets | self._own_secrets)

    def _facts(self) -> dict[str, object]:
        """What the log tells with each change of the state: times in seconds, never a value."""
        details = self._activator.progress.details()
        return {name: details[name] for name in ("attempt", "restarts", "timings") if details[name]}

    def _details(self) -> dict[str, Any]:
        imported, modules = self._preloaded
        return {
            "since": self._lifecycle.since,
            "preload": {"imported": imported, "modules": modules},
            **self._activator.progress.details(),
        }

    def _exit_code(self) -> int | None:
        last = self._activator.progress.last_exit
        return last.code if last is not None else None

    def _warming(self, imported: int, modules: int) -> None:
        self._preloaded = (imported, modules)
        logger.info("warming", extra={"imported": imported, "modules": modules})

    # Shutdown

    def _signalled(self, number: int) -> None:
        if not self._stop.done():
            logger.info("stopping", extra={"signal": signal.Signals(number).name})
            self._stop.set_result(0)
        else:
            logger.warning("cutting", extra={"signal": signal.Signals(number).name})
            self._cut.set()

    def _leaving(self) -> None:
        """The pod ends: its other container goes as soon as the upstream was stopped in order."""
        logger.info("stopping", extra={"cause": "the upstream's container was told to end"})
        self._ask_to_stop(0)

    def _ask_to_stop(self, code: int) -> None:
        if not self._stop.done():
            self._stop.set_result(code)

    async def _close(self) -> None:
        """Drain, then stop the upstream; a second signal skips to the end of both."""
        self._lifecycle.apply(Event.DRAIN)
        drain = asyncio.create_task(self._drain(), name="drain")
        cut = asyncio.create_task(self._cut.wait(), name="second signal")
        await asyncio.wait({drain, cut}, return_when=asyncio.FIRST_COMPLETED)
        cut.cancel()
        if not drain.done():
            drain.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await drain
            self._relay.abort()
            try:
                await self._starter.kill()
            except ProxyError as error:
                logger.error("cannot stop the upstream", extra={"error": str(error)})  # noqa: TRY400  no traceback: it was foreseen
        elif drain.exception() is not None:
            logger.error("cannot drain", exc_info=drain.exception())
        self._stop_listening()
        self._relay.abort()
        await self._starter.close()
        await self._control.cleanup()
        if self._admin is not None:
            await self._admin.close()
        logger.info("stopped")

    async def _drain(self) -> None:
        # A running activation is undone at once; nobody can use what it would have started.
        await asyncio.gather(
            self._activator.interrupt(), self._relay.drain(self._settings.drain.grace)
        )
        self._stop_listening()
        # The upstream closes its own WebSockets properly, through tunnels that are still open.
        await self._activator.shutdown()
        await self._relay.drain(_LAST_BYTES, tunnels=True)

    def _stop_listening(self) -> None:
        address, mine = self._settings.listen.address, self._socket_file
        # Another proxy's, or a file that kept us from listening, is not ours to remove.
        if isinstance(address, UnixAddress) and mine is not None:
            self._socket_file = None
            if identity(address.path) == mine:
                Path(address.path).unlink()
        if self._listener is not None:
            self._listener.close()


def _access_log(wanted: str) -> AccessLog | None:
    return None if wanted == "off" else AccessLog(errors_only=wanted == "errors")


def _private_run_dir() -> str:
    """A name nobody can guess or have made before; the launcher makes the directory."""
    return str(Path(tempfile.gettempdir()) / f"deferred-init-{uuid.uuid4().hex}")
