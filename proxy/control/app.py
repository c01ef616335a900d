"""The control plane: the aiohttp application behind `/api/init`, `/health` and `/ready`.

It reaches the network only through the relay, over socketpairs, so it sees no more than what the
relay's strict parser let through.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import HttpVersion11, web

from proxy.control.answers import errors_as_json, plain_headers, unavailable
from proxy.control.crossorigin import let_pages_read
from proxy.control.initkey import InitKey
from proxy.control.watch import parse_query, wants_stream
from proxy.errors import (
    ActivationError,
    BodyTooLargeError,
    ClaimedError,
    DrainingError,
    EncodedBodyError,
    RequestError,
    StateError,
)
from proxy.lifecycle.claims import Claims, read_claim_id
from proxy.lifecycle.contract import InitStatus
from proxy.lifecycle.state import Event, State

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from proxy.control.login import Login
    from proxy.control.watch import Watch
    from proxy.lifecycle.cors import Cors
    from proxy.lifecycle.plan import Plan
    from proxy.lifecycle.state import Lifecycle

logger = logging.getLogger(__name__)

# An init request is a page of settings and keys; a megabyte is already generous.
BODY_LIMIT: Final = 1024 * 1024
# Seconds a poster may take to deliver that body.
_BODY_TIMEOUT: Final = 30.0


class Activation(Protocol):
    """What the control plane needs of the activation."""

    @property
    def alive(self) -> bool: ...

    @property
    def unready(self) -> str | None: ...

    def admit(self) -> None: ...

    async def activate(self, plan: Plan) -> None: ...

    async def join(self) -> None: ...


class ControlPlane:
    """Answers from the life cycle's state; the only writer is `POST /api/init`.

    `key` is the bootstrap secret, None when init needs none, and a blank one refuses everybody.
    `prefix` is what its paths begin with; `alive_paths` are answered as `/health` is. `plan` makes
    a plan of a request's body (raises `RequestError`); `probe` tells why the upstream is not ready,
    None when it is; `leaving` whether the proxy was told to end, draining or not yet.
    """

    def __init__(
        self,
        *,
        lifecycle: Lifecycle,
        watch: Watch,
        activation: Activation,
        prefix: str,
        deferred: bool,
        alive_paths: Iterable[str],
        key: str | None,
        plan: Callable[[bytes], Plan],
        probe: Callable[[], Awaitable[str | None]],
        leaving: Callable[[], bool],
        login: Login | None = None,
    ) -> None:
        self._lifecycle = lifecycle
        self._watch = watch
        self._activation = activation
        self._prefix = prefix
        self._deferred = deferred
        self._alive_paths = tuple(alive_paths)
        self._key = InitKey(key)
        self._plan = plan
        self._probe = probe
        self._leaving = leaving
        self._login = login
        self._claims = Claims()
        lifecycle.subscribe(self._changed)

    def application(self, cors: Cors) -> web.Application:
        """The routes, as a table: method, path, handler. Only init asks for a key.

        `cors` says whose pages may read the answers.
        """
        app = web.Application(client_max_size=BODY_LIMIT, middlewares=[errors_as_json])
        app.on_response_prepare.append(plain_headers)
        let_pages_read(app, cors)
        get = functools.partial(web.get, expect_handler=_expect)
        post = functools.partial(web.post, expect_handler=_expect)
        rest = functools.partial(web.route, "*", expect_handler=_expect)
        init = f"{self._prefix}/api/init"
        for path, handler in self.probes().items():
            app.add_routes([get(path, handler), rest(path, _other_method)])
        if self._deferred:
            app.add_routes([get(init, self.status), post(init, self.initialize)])
        app.add_routes([rest(init, _other_method if self._deferred else _not_deferred)])
        if self._login is not None:
            path = self._login.path
            enter = get(path, self._login.enter, allow_head=False)  # whoever looks uses no link up
            link = post(path, functools.partial(self._login.link, self._key.check))
            app.add_routes([enter, link, rest(path, _other_method)])
        return app

    def probes(self) -> dict[str, Callable[[web.Request], Awaitable[web.Response]]]:
        """What a kubelet asks, by path."""
        alive = dict.fromkeys((f"{self._prefix}/health", *self._alive_paths), self.health)
        return {**alive, f"{self._prefix}/ready": self.ready}

    async def health(self, _request: web.Request) -> web.Response:
        if self._lifecycle.state is State.READY and not self._activation.alive:
            return unavailable("the upstream is not running")
        return web.json_response({"status": "ok"})

    async def ready(self, _request: web.Request) -> web.Response:
        why = await self._unready()
        return web.json_response({"status": "ready"}) if why is None else unavailable(why)

    async def _unready(self) -> str | None:
        state = self._lifecycle.state
        if state is State.DRAINING or self._leaving():
            return "shutting down"
        if state is State.WARMING:
            return self._activation.unready or "warming up"
        if state is State.READY:
            return await self._probe()
        if self._lifecycle.restarting:
            return "the upstream is started again"
        # A dormant pod is Ready: pool controllers replace members that are not. Without a
        # deferred init there is nothing to be claimed, and not started is not ready.
        if state is State.DORMANT and self._deferred:
            return self._activation.unready
        return None if self._deferred else "starting"

    async def status(self, request: web.Request) -> web.StreamResponse:
        """State and error, at once or when they change (`wait`), or as a stream of changes."""
        details, wait, wanted = parse_query(request.query)
        if request.method == "GET" and wants_stream(request.headers.get("Accept", "")):
            return await self._watch.stream(request, details=details)
        if wait:
            await self._watch.changed(wait, wanted)
        return web.json_response(self._watch.status(details=details))

    async def initialize(self, request: web.Request) -> web.Response:
        """Checks in the contract's order: key, state or claim, size, JSON, fields."""
        self._key.check(request)
        if self._leaving():
            raise DrainingError("shutting down")
        claim = read_claim_id(request.headers.getall("Idempotency-Key", []))
        # Asked before the body is read and again after it: the state may change meanwhile.
        self._taken(claim)
        body = await _read_body(request)
        taken = self._taken(claim)
        try:
            if taken is None:
                plan = self._plan(body)
                self._claims.take(claim, body)
                await self._activation.activate(plan)
            elif self._holds(claim, body):
                await self._activation.join()
                if not self._holds(claim, body):  # it has become another's meanwhile
                    raise _claimed(taken)
            else:
                raise _claimed(taken)
        except ActivationError as error:
            status = self._watch.status() | {"error": str(error)}
            return web.json_response(status, status=error.status)
        except StateError as error:  # it was accepted, and then an upstream was found running
            if claim is None:
                raise
            raise _claimed(error) from None
        # It was ready, whatever has become of it since: the next question is told that.
        return web.json_response(InitStatus(state="ready").model_dump())

    def _taken(self, claim: str | None) -> StateError | None:
        """Why no activation can begin, for a claim that may join its own; others are refused."""
        try:
            self._activation.admit()
        except StateError as error:
            if claim is None:
                raise
            if not self._claims.held_by(claim):
                raise _claimed(error) from None
            return error
        return None

    def _holds(self, claim: str | None, body: bytes) -> bool:
        """Whether the server is held by this very request."""
        return claim is not None and self._claims.held_by(claim) and self._claims.came_with(body)

    def _changed(self, _state: State, event: Event) -> None:
        if event is Event.ADOPTED:
            self._claims.release()  # who began it, only a predecessor of this process knew


def _claimed(taken: StateError) -> ClaimedError:
    # The same words whatever differs, and no more than everybody is told by GET.
    return ClaimedError(f"{taken}, claimed by another request")


async def _read_body(request: web.Request) -> bytes:
    coding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if coding != "identity":
        # A kilobyte could unfold to megabytes; a page of settings needs no compression.
        raise EncodedBodyError("cannot read a body with a Content-Encoding: send it as it is")
    try:
        async with asyncio.timeout(_BODY_TIMEOUT):
            return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise BodyTooLargeError(f"the body is larger than {BODY_LIMIT} bytes") from None
    except TimeoutError:
        raise RequestError(f"the body did not arrive within {_BODY_TIMEOUT:g} s") from None
    except web.RequestPayloadError:
        raise RequestError("cannot read the body: its encoding is broken") from None


async def _expect(request: web.Request) -> None:
    """Ask for a body that waits to be asked for; every other expectation may be ignored.

    (RFC 9110 section 10.1.1. aiohttp would refuse it, quoting what it cannot always write.)
    """
    if request.version >= HttpVersion11 and request.headers["Expect"].lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun with it


async def _other_method(request: web.Request) -> web.Response:
    resource = request.match_info.route.resource
    allowed = {route.method for route in resource or ()} - {"*"}
    raise web.HTTPMethodNotAllowed(request.method, allowed)


async def _not_deferred(_request: web.Request) -> web.Response:
    detail = "this server does not run with deferred_init: true; it has no init to post"
    return web.json_response({"detail": detail}, status=404)
