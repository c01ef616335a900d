"""Hearing of changes without asking again: long polls and event streams of `GET /api/init`.

Whoever waits costs memory and one timer. A change is written down once, then those who wait for
it are woken a few at a time, so that a thousand of them do not hold up the one request that
brought the change about.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import json
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, NamedTuple, get_args

from aiohttp import web

from proxy.errors import RequestError
from proxy.lifecycle.contract import InitStatus
from proxy.lifecycle.state import Event, Lifecycle, Reported, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from multidict import MultiMapping

# Seconds. Longer than any activation; a client that wants more asks again.
LONGEST_WAIT: Final = 300.0
# Seconds between comments in a quiet stream: under the idle limits of common load balancers.
_HEARTBEAT: Final = 15.0
# Milliseconds that a browser lets pass before it takes up a stream that ended.
_RECONNECT: Final = 1000
# Changes that a client which lost its stream can still be told of: several activations.
_REMEMBERED: Final = 32
# Where another user's time begins. Nobody is told then what was before: an error quotes the words
# of the upstream, and the numbers of its changes can be guessed.
_BEGINNINGS: Final = frozenset({Event.INIT_ACCEPTED, Event.ADOPTED})
# Waiting clients woken in one turn of the event loop: about a millisecond's work.
_AT_ONCE: Final = 16

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}
_NUMBER: Final = re.compile(r"[0-9]{1,9}(\.[0-9]*)?([eE][-+]?[0-9]{1,3})?", re.ASCII)


class Bell:
    """Wakes everybody who waits when it rings, a few in each turn of the loop."""

    def __init__(self) -> None:
        # A dict for its order, and because whoever leaves is found at once.
        self._waiting: dict[asyncio.Future[None], None] = {}
        self._woken: collections.deque[asyncio.Future[None]] = collections.deque()

    def ring(self) -> None:
        idle = not self._woken
        self._woken.extend(self._waiting)
        self._waiting.clear()
        if idle:
            self._wake()

    def _wake(self) -> None:
        for _ in range(min(_AT_ONCE, len(self._woken))):
            waiter = self._woken.popleft()
            if not waiter.done():  # its client may have left
                waiter.set_result(None)
        if self._woken:
            asyncio.get_running_loop().call_soon(self._wake)

    async def wait(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting[waiter] = None
        try:
            await waiter
        finally:
            self._waiting.pop(waiter, None)


class Change(NamedTuple):
    """What was reported from then on; `plain` when state or error differed, not only details."""

    number: int
    plain: bool
    status: dict[str, Any]
    details: dict[str, Any]


class Watch:
    """What `GET /api/init` reports, and whoever waits for it to change.

    `details` gives what `?details=true` adds; `progressed` is to be called when that changes.
    """

    def __init__(
        self,
        lifecycle: Lifecycle,
        details: Callable[[], dict[str, Any]],
        heartbeat: float = _HEARTBEAT,
    ) -> None:
        self._lifecycle = lifecycle
        self._details = details
        self._heartbeat = heartbeat
        # Numbers of another process of ours mean nothing to this one.
        self._epoch = secrets.token_hex(4)
        self._number = 0
        self._plain = 0  # changes of state or error
        self._last = self.status()
        self._changes: collections.deque[Change] = collections.deque(maxlen=_REMEMBERED)
        self._anything, self._status_changed = Bell(), Bell()
        self._reached: dict[str, Bell] = {state: Bell() for state in get_args(Reported)}
        lifecycle.subscribe(self._applied)

    def status(self, *, details: bool = False) -> dict[str, Any]:
        """The body of `GET /api/init`."""
        lifecycle = self._lifecycle
        status = InitStatus(state=lifecycle.reported, error=lifecycle.error).model_dump()
        return status | self._details() if details else status

    @property
    def _closing(self) -> bool:
        return self._lifecycle.state is State.DRAINING

    def progressed(self) -> None:
        """The details have changed."""
        self._note(plain=False)

    def _applied(self, _state: State, event: Event) -> None:
        if event in _BEGINNINGS:
            self._changes.clear()
        status = self.status()
        # Warming to dormant is no change to anybody outside.
        plain, self._last = status != self._last, status
        self._note(plain=plain)
        if plain:
            self._plain += 1
            self._reached[status["state"]].ring()
            self._status_changed.ring()
        if event is Event.DRAIN:
            for bell in (self._status_changed, *self._reached.values()):
                bell.ring()

    def _note(self, *, plain: bool) -> None:
        self._number += 1
        self._changes.append(Change(self._number, plain, self.status(), self._details()))
        self._anything.ring()

    # Long polls

    async def changed(self, seconds: float, wanted: str | None) -> None:
        """Return when state or error differ, or the state is `wanted`; at the latest in `seconds`.

        A shutdown ends the waiting: nothing will change after it.
        """
        seen = self._plain
        bell = self._status_changed if wanted is None else self._reached[wanted]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not self._closing and (
                    self._plain == seen if wanted is None else self._lifecycle.reported != wanted
                ):
                    await bell.wait()

    # Event streams

    async def stream(self, request: web.Request, *, details: bool) -> web.StreamResponse:
        """Server-sent events: the state at once, then every change until the client leaves.

        A client that comes back with `Last-Event-ID` gets what it has missed instead. A shutdown
        ends the stream properly.
        """
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}
        )
        with contextlib.suppress(ConnectionError):  # the client left while it was written to
            await response.prepare(request)
            await self._tell(response, request.headers.get("Last-Event-ID", ""), details=details)
            await response.write_eof()
        return response

    async def _tell(self, response: web.StreamResponse, last: str, *, details: bool) -> None:
        seen = self._resumed(last)
        greeting = b"retry: %d\n\n" % _RECONNECT
        if seen is None:
            seen = self._number
            greeting += self._event(seen, self.status(details=details))
        await response.write(greeting)
        bell = self._anything if details else self._status_changed
        while True:
            missed = b"".join(self._missed(seen, details=details))
            seen = self._number
            if missed:
                await response.write(missed)
            elif self._closing:
                return
            else:
                await self._quiet(response, bell)

    async def _quiet(self, response: web.StreamResponse, bell: Bell) -> None:
        """Return when the bell rings; without a ring, after a sign of life."""
        try:
            async with asyncio.timeout(self._heartbeat):
                await bell.wait()
        except TimeoutError:
            await response.write(b":\n\n")

    def _missed(self, seen: int, *, details: bool) -> Iterator[bytes]:
        for change in self._changes:
            if change.number > seen and (change.plain or details):
                data = change.status | change.details if details else change.status
                yield self._event(change.number, data)

    def _resumed(self, last: str) -> int | None:
        """The number of the last change that the client has seen, if the later ones are known."""
        epoch, _, text = last.partition("-")
        if epoch != self._epoch or not (text.isascii() and text.isdigit()):
            return None
        number = int(text[:20])
        oldest = self._changes[0].number if self._changes else self._number + 1
        return number if oldest - 1 <= number <= self._number else None

    def _event(self, number: int, data: dict[str, Any]) -> bytes:
        text = json.dumps(data, ensure_ascii=False)
        return f"id: {self._epoch}-{number}\nevent: status\ndata: {text}\n\n".encode()


def parse_query(query: MultiMapping[str]) -> tuple[bool, float, str | None]:
    """`details`, the seconds of `wait`, and `state`. Raises `RequestError`."""
    for name in ("details", "wait", "state"):
        if len(query.getall(name, [])) > 1:
            raise RequestError(f"{name}: is given more than once")
    details, wait = query.get("details", "false"), query.get("wait", "0")
    if details not in _FLAGS:
        raise RequestError("details: must be true or false")
    if not (_NUMBER.fullmatch(wait) and float(wait) <= LONGEST_WAIT):
        raise RequestError(f"wait: must be seconds from 0 to {LONGEST_WAIT:g}")
    state = query.get("state")
    if state is not None and state not in get_args(Reported):
        raise RequestError(f"state: must be one of {', '.join(get_args(Reported))}")
    return _FLAGS[details], float(wait), state


def wants_stream(accept: str) -> bool:
    """Whether an `Accept` header asks for server-sent events."""
    return any(
        part.partition(";")[0].strip().lower() == "text/event-stream" for part in accept.split(",")
    )
