"""What the relay asks of the life cycle: who may pass, and what the others are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from proxy.control import page
from proxy.lifecycle.gate import CONTROL_PATHS, Verdict, decide
from proxy.lifecycle.state import State
from proxy.relay import Refusal
from proxy.relay.exchange.refusals import plain_refusal
from proxy.relay.exchange.sessionkeys import SessionKeys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from proxy.lifecycle.state import Event, Lifecycle
    from proxy.relay.http.head import RequestHead
    from proxy.settings import GateSettings, MappingSettings


_LOOKS: Final = frozenset({b"GET", b"HEAD"})  # which change nothing (RFC 9110 section 9.2.1)


# What no page explains: it will not be different in a moment, or without doing something.
_PLAIN: Final = frozenset({Verdict.UNAUTHORIZED, Verdict.CROWDED})


class Doorkeeper:
    """Judges requests by the state of the moment, and by the session keys that were delivered.

    `enforces`: the session keys are asked for here, in the upstream's place; `deferred`: an init
    is what a refused browser waits for; `waits`: an upstream is there that is dormant.
    """

    def __init__(
        self,
        gate: GateSettings,
        mapping: MappingSettings,
        lifecycle: Lifecycle,
        *,
        deferred: bool,
        waits: Callable[[], bool],
    ) -> None:
        self.enforces = gate.session_keys == "enforce"
        self._lifecycle = lifecycle
        self._deferred = deferred
        self._holds = gate.hold > 0
        self._open_paths = frozenset(path.encode() for path in gate.open_paths)
        self._own_paths = CONTROL_PATHS | {path.encode() for path in mapping.alive_paths}
        dormant_paths = mapping.native.open_paths if mapping.native is not None else ()
        self._dormant_paths = frozenset(path.encode() for path in dormant_paths)
        self._waits = waits
        self._session_keys = SessionKeys()
        lifecycle.subscribe(self._changed)

    def given(self, session_keys: Iterable[str]) -> None:
        """From here on these keys open; no others do."""
        if self.enforces:
            self._session_keys = SessionKeys(session_keys)

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
        wants_page = page.wants_page(head.method, head.field(b"accept"))
        if verdict in _PLAIN or not wants_page:
            return plain_refusal(verdict, head)
        state, error = self._lifecycle.state, self._lifecycle.error
        text = page.waiting_page(state, error, deferred=self._deferred)
        return Refusal(text, page.CONTENT_TYPE, page.page_headers())

    def _changed(self, state: State, _event: Event) -> None:
        if state is State.DORMANT:
            self._session_keys = SessionKeys()  # whom they were given to has gone
