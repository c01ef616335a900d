"""What the relay asks of the life cycle: who may pass, and what the others are told."""

from __future__ import annotations

import functools
import secrets
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from proxy.control import page
from proxy.control.login import Login
from proxy.lifecycle.gate import Verdict, control_paths, decide
from proxy.lifecycle.state import State
from proxy.relay import Refusal
from proxy.relay.exchange.refusals import plain_refusal
from proxy.relay.exchange.sessionkeys import COOKIE, SessionKeys, is_preflight

if TYPE_CHECKING:
    from collections.abc import Callable

    from proxy.lifecycle.cors import Cors, Headers
    from proxy.lifecycle.plan import Plan
    from proxy.lifecycle.state import Event, Lifecycle
    from proxy.relay.http.head import RequestHead
    from proxy.settings import Settings


_LOOKS: Final = frozenset({b"GET", b"HEAD"})  # which change nothing (RFC 9110 section 9.2.1)


_PREFLIGHT: Final = (b"origin", b"access-control-request-method", b"access-control-request-headers")
# What no page explains: it will not be different in a moment, or without doing something.
_PLAIN: Final = frozenset({Verdict.UNAUTHORIZED, Verdict.CROWDED})


class Doorkeeper:
    """Judges requests by the state of the moment, and by the session keys that were delivered.

    `waits`: an upstream is there that is dormant; `cors`: whose pages may read the proxy's answers.
    `enforces`: the session keys are asked for here, in the upstream's place. `login` makes links
    by which browsers come to have a key, where they can be had for an init key.
    """

    def __init__(
        self, settings: Settings, lifecycle: Lifecycle, *, waits: Callable[[], bool], cors: Cors
    ) -> None:
        gate, mapping = settings.gate, settings.upstream.fields_and_files
        self._prefix, self._deferred = settings.control.prefix, settings.deferred_init
        self.enforces = gate.session_keys == "enforce"
        self._lifecycle = lifecycle
        self._holds = gate.hold > 0
        self._open_paths = frozenset(path.encode() for path in gate.open_paths)
        self._ticket: str | None = None  # a key of our own, for the cookies of browsers
        self.login = (
            Login(self._prefix, lambda: self._ticket, cookie=COOKIE)
            if offers_logins(settings)
            else None
        )
        own = (*mapping.alive_paths, *((self.login.path,) if self.login is not None else ()))
        self._own_paths = control_paths(self._prefix) | {path.encode() for path in own}
        native = settings.upstream.native
        dormant_paths = native.open_paths if native is not None else ()
        self._dormant_paths = frozenset(path.encode() for path in dormant_paths)
        self._waits = waits
        self._cors = cors
        self._keys_of = functools.partial(
            SessionKeys, parameter=gate.query_parameter, strips=gate.strip_session_keys
        )
        self._session_keys = self._keys_of()
        lifecycle.subscribe(self._changed)

    def given(self, plan: Plan) -> None:
        """From here on the plan's keys open, and no others do."""
        self._cors.deliver(plan.cors_origins)
        if self.enforces:
            self._ticket = secrets.token_urlsafe() if plan.session_keys else None
            self._session_keys = self._keys_of([*plan.session_keys, *self.secrets])

    @property
    def secrets(self) -> frozenset[str]:
        """What nobody may see beside the keys that were delivered."""
        return frozenset({self._ticket} if self._ticket is not None else ())

    def gate(self, method: bytes, target: bytes) -> Verdict:
        state = self._lifecycle.state
        verdict = decide(
            state, target, self._open_paths, own_paths=self._own_paths, hold=self._holds
        )
        if verdict is not Verdict.REFUSE or state is not State.DORMANT or method not in _LOOKS:
            return verdict
        open_path = target.partition(b"?")[0] in self._dormant_paths
        return Verdict.RELAY if open_path and self._waits() else verdict

    def admits(self, head: RequestHead) -> bool:
        """Whether whoever makes this request, which may be made at all, is let in."""
        # Before an init nobody has a key: a path that is open then is open to everybody.
        path = head.target.partition(b"?")[0]
        dormant = self._lifecycle.state is State.DORMANT
        open_path = path in self._open_paths or (dormant and path in self._dormant_paths)
        return open_path or self._session_keys.admits(head)

    def refuse(self, verdict: Verdict, head: RequestHead) -> Refusal:
        """What a refused request is told: people get a page."""
        if is_preflight(head) and (told := self._preflight(head)):
            return Refusal(b"", "text/plain", told, HTTPStatus.OK)
        wants_page = page.wants_page(head.method, head.field(b"accept"))
        if verdict in _PLAIN or not wants_page:
            return plain_refusal(verdict, head)
        state, error = self._lifecycle.state, self._lifecycle.error
        text = page.waiting_page(state, error, deferred=self._deferred, prefix=self._prefix)
        return Refusal(text, page.CONTENT_TYPE, page.page_headers())

    def headers(self, head: RequestHead) -> Headers:
        """What goes with every answer of the relay's own."""
        return self._cors.headers(_text(head.field(b"origin")))

    def _preflight(self, head: RequestHead) -> Headers:
        fields = map(head.field, _PREFLIGHT)
        return self._cors.preflight(*map(_text, fields))

    def _changed(self, state: State, _event: Event) -> None:
        if state is State.DORMANT:
            self._cors.deliver(None)
            self._ticket = None
            self._session_keys = self._keys_of()  # whom they were given to has gone


def offers_logins(settings: Settings) -> bool:
    """Whether links that log a browser in can be had for an init key."""
    key = settings.init.key
    keyed = key is not None and bool(key.get_secret_value().strip())
    return settings.gate.session_keys == "enforce" and settings.deferred_init and keyed


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
