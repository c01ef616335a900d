"""The composition root: builds every part, wires them, and owns their lifetimes.

`Server.__init__` is the whole house on one screen; nothing else in the project knows more than
one floor.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import platform
from typing import TYPE_CHECKING, Any

import uvloop

from proxy import __version__
from proxy.activation.readiness.probe import Probe
from proxy.activation.transaction import Activator
from proxy.control.app import ControlPlane
from proxy.control.inlet import Inlet
from proxy.control.watch import Watch
from proxy.errors import ProxyError
from proxy.lifecycle.contract import InitRequest, parse_init_request
from proxy.lifecycle.cors import Cors
from proxy.lifecycle.plan import build_plan
from proxy.lifecycle.redact import Redactor
from proxy.lifecycle.state import Lifecycle, State
from proxy.log.upstreamlog import UpstreamLog
from proxy.relay import Relay, Shared
from proxy.relay.telling.accesslog import access_log
from proxy.relay.telling.tally import Tally
from proxy.server import process
from proxy.server.admin import described, open_admin
from proxy.server.closing import LAST_BYTES, Closing
from proxy.server.doorkeeper import Doorkeeper
from proxy.server.listen import Listener
from proxy.server.passing import Passing
from proxy.server.starters import make_pulse, make_starter, private_run_dir
from proxy.server.stopping import Stopping
from proxy.server.warming import Warming

if TYPE_CHECKING:
    from proxy.activation.starter import Found
    from proxy.lifecycle.plan import Plan
    from proxy.log.log import Log
    from proxy.server.admin import Admin, Page
    from proxy.settings import Settings

logger = logging.getLogger(__name__)


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
        upstream = settings.upstream if settings.deferred_init else settings.upstream.at_once()
        mapping = upstream.fields_and_files
        native = upstream.native if settings.deferred_init else None
        self._settings, self._log = settings, log
        self._run_dir = upstream.run_dir or private_run_dir()
        key = settings.init.key
        keys = (key, upstream.forward.key)
        self._own_secrets = frozenset(each.get_secret_value() for each in keys if each is not None)
        self._delivered: frozenset[str] = frozenset()
        self._key: frozenset[str] = frozenset()  # of the upstream's own init
        log.mask = Redactor(self._own_secrets)
        self._stopping = Stopping(asyncio.get_running_loop())
        # From the inside out: the state first, because everybody reads it ...
        warms = upstream.warms or upstream.stands_by or native is not None
        self._lifecycle = Lifecycle(State.WARMING if warms else State.DORMANT, self._facts)
        self._warming = Warming(self._lifecycle)
        self._watch = Watch(self._lifecycle, self._details)
        # ... then what brings an upstream up and keeps it up ...
        self._upstream_log = UpstreamLog()
        self._probe = Probe(upstream.url, upstream.ready)
        self._starter = make_starter(
            upstream,
            native,
            run_dir=self._run_dir,
            probe=self._probe,
            ending=lambda: self._lifecycle.state is State.DRAINING,
            on_key=self._keyed,
            on_output=self._upstream_log,
            on_warming=self._warming.progressed,
            on_leaving=self._stopping.pod_ends,
        )
        self._warming.follow(self._starter)
        self._passing = Passing(self._starter)
        self._activator = Activator(
            lifecycle=self._lifecycle,
            starter=self._starter,
            probe=self._probe,
            timeout=settings.init.timeout,
            stop_grace=upstream.stop_grace,
            on_exit=upstream.on_exit,
            restarts=upstream.restarts,
            pulse=make_pulse(upstream, self._starter, self._lifecycle),
            on_plan=self._planned,
            mask=log.masked,
            on_fatal=self._stopping.ask,
            on_phase=self._watch.progressed,
        )
        # ... then who says who may pass, and who answers for the proxy itself ...
        cors = Cors(settings.gate.cors_origins)
        self._doorkeeper = doorkeeper = Doorkeeper(
            *(settings, self._lifecycle), waits=lambda: self._starter.waits, cors=cors
        )
        control = ControlPlane(
            lifecycle=self._lifecycle,
            watch=self._watch,
            activation=self._activator,
            prefix=settings.control.prefix,
            deferred=settings.deferred_init,
            alive_paths=mapping.alive_paths,
            key=key.get_secret_value() if key is not None else None,
            plan=lambda body: self._plan(parse_init_request(body, mapping.own_fields)),
            probe=self._probe.check,
            leaving=self._stopping.asked.done,
            login=doorkeeper.login,
        )
        self._probes = control.probes()
        self._control = Inlet(
            control.application(cors),
            head_size=settings.limits.head_size,
            header_count=settings.limits.header_count,
            idle=settings.limits.idle_timeout,
            grace=LAST_BYTES,
        )
        # ... and last the relay, which is the only one to face the network.
        self._tally = Tally()
        self._room = room = process.make_room(settings.limits.connections)
        shared = Shared(
            gate=doorkeeper.gate,
            dial=upstream.url.address,
            control=self._control.connect,
            refuse=doorkeeper.refuse,
            headers=doorkeeper.headers,
            limits=settings.limits.model_copy(update={"connections": room.connections}),
            places=room.places,
            trusted_proxies=settings.listen.trusted_proxies,
            trust_unix=settings.listen.unix.trusted,
            forwarded=settings.listen.forwarded,
            hold=settings.gate.hold,
            admits=doorkeeper.admits if doorkeeper.enforces else None,
            strip_session_keys=settings.gate.strip_session_keys,
            tally=self._tally if settings.listen.admin is not None else None,
            access=access_log(settings.log.access, settings.control.prefix),
        )
        self._relay = Relay(shared)
        # After the doorkeeper, whom it asks again about the requests that are held.
        self._lifecycle.subscribe(
            lambda state, _event: self._relay.reconsider(
                left=state is not State.READY, over=state is State.DORMANT
            )
        )
        listen, keepalive = settings.listen, settings.limits.keepalive
        self._listener = Listener(listen.address, listen.unix, keepalive)
        self._admin: Admin | None = None
        # Everything that must end in order.
        self._closing = Closing(
            lifecycle=self._lifecycle,
            activator=self._activator,
            starter=self._starter,
            relay=self._relay,
            listener=self._listener,
            control=self._control,
            settings=settings.drain,
            stopping=self._stopping,
        )

    async def run(self) -> int:
        """Serve; returns the exit code once everything is closed."""
        loop = asyncio.get_running_loop()
        self._stopping.listen()
        self._passing.listen()
        process.adopt_orphans()
        process.Reaper(loop, self._starter.owned_pids).attach()
        try:
            if self._settings.upstream.url.address.named:
                await process.take_resolver_threads(loop)
            code = await self._until_stopped()
        except ProxyError as error:
            logger.critical("cannot serve", extra={"error": str(error)})
            code = 1
        await self._closing.close()
        if self._admin is not None:
            await self._admin.close()
        logger.info("stopped")
        process.let_nothing_disturb_the_end(loop)
        return code

    # Boot

    async def _until_stopped(self) -> int:
        await self._control.open()
        if self._stopping.asked.done():  # by a signal that came while we were imported
            return self._stopping.asked.result()
        # Before the launcher: `/health` must answer at once, whatever warming takes.
        await self._listen()
        self._admin = await open_admin(self._settings.listen, self._admin_pages)
        if self._admin is None:
            self._relay.count_no_more()
        # What was imported stays; walking it holds up every connection for some 20 ms each time.
        gc.freeze()
        opening = asyncio.create_task(self._open(), name="open")
        code = await self._stopping.asked
        opening.cancel()
        return code

    async def _listen(self) -> None:
        process.tell_of(self._room, self._settings.limits)
        extra = {"address": self._listener.bind(), "version": __version__, "pid": os.getpid()}
        await self._listener.serve(self._relay)
        logger.info("listening", extra=extra)

    def _admin_pages(self) -> dict[str, Page]:
        # Here, because prometheus-client takes a while to import and `/health` is up already.
        from proxy.control.metrics import Metrics  # noqa: PLC0415

        metrics = Metrics(
            lifecycle=self._lifecycle,
            traffic=self._relay,
            tally=self._tally,
            details=self._details,
            exit_code=lambda: self._activator.progress.exit_code,
            preload=lambda: self._warming.preloaded,
            build={"version": __version__, "python": platform.python_version()},
        )
        pages = {"/metrics": metrics.answer, "/openapi.json": described(self._settings)}
        return self._probes | pages

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
            self._stopping.ask(1)
        except Exception:
            logger.exception("cannot start")
            self._stopping.ask(1)

    async def _adopt(self, found: Found) -> None:
        await self._activator.adopt(found)
        if not self._starter.warmed.done():  # whoever waits for it is told what has become of it
            self._starter.warmed.set_result(None)

    # What the parts ask of each other

    def _plan(self, request: InitRequest) -> Plan:
        return build_plan(
            self._settings.upstream,
            request,
            run_dir=self._run_dir,
            keys_at_gate=self._doorkeeper.enforces,
        )

    def _keyed(self, key: str) -> None:
        self._key = frozenset({key})
        self._mask()

    def _planned(self, plan: Plan) -> None:
        self._doorkeeper.given(plan)
        self._delivered = plan.secrets | self._doorkeeper.secrets
        self._mask()

    def _mask(self) -> None:
        self._log.mask = mask = Redactor(self._delivered | self._key | self._own_secrets)
        self._upstream_log.arm(mask)

    def _facts(self) -> dict[str, object]:
        """What the log tells with each change of the state: times in seconds, never a value."""
        details = self._activator.progress.details()
        return {name: details[name] for name in ("attempt", "restarts", "timings") if details[name]}

    def _details(self) -> dict[str, Any]:
        return {
            "since": self._lifecycle.since,
            "preload": self._warming.preloaded._asdict(),
            "next": self._starter.outlook._asdict(),
            **self._activator.progress.details(),
        }
