"""What every way to start an upstream has in common: one Protocol, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    import asyncio

    from proxy.lifecycle.plan import Plan

StartKind = Literal["cold", "partial", "warm", "native", "standby"]


class Outlook(NamedTuple):
    """Of a start: its kind, and what it could not be better for."""

    kind: StartKind
    why: str | None


@dataclass(frozen=True)
class Exit:
    """How an upstream ended.

    `code` is its exit code, 128 + n for signal n. `reason` reads on after "the upstream"
    ("exited with code 1", "was killed by SIGKILL"). `tail` is the end of its stderr, unmasked:
    it may quote delivered values, so it is never logged or answered as it is.
    """

    code: int
    reason: str
    tail: str = field(default="", repr=False)


@dataclass(frozen=True)
class Started:
    """A running upstream. `why` says what it could not be better for; None when it could not.

    `kind` is how it had waited: not at all, with its modules imported (partial: so few of them that
    it took more than a third of a cold start), in a mode of its own, or running.
    `pid` is 0 where the upstream is known by its address alone.
    """

    pid: int
    kind: StartKind
    why: str | None
    exited: asyncio.Future[Exit]


@dataclass(frozen=True)
class Found:
    """An upstream that runs already, of a proxy's that is gone; `plan` is None when not known."""

    plan: Plan | None
    started: Started


class Starter(Protocol):
    """Starts, watches and stops one upstream at a time.

    `warmed` is done when it is as warm as it will be; its result says why it stays cold, or None.
    `found` is an upstream that runs already, known after `open`.
    `unready` says what an init would have to wait for, though the warming is over, or None.
    `outlook` tells how a start would come about at this moment.
    `waits`: there is an upstream that may be asked before an init for what it leaves open.
    """

    found: Found | None

    @property
    def warmed(self) -> asyncio.Future[str | None]: ...

    @property
    def unready(self) -> str | None: ...

    @property
    def waits(self) -> bool: ...

    @property
    def outlook(self) -> Outlook: ...

    async def open(self) -> None:
        """Get ready to start (and begin to warm). Raises `ActivationError`."""

    async def hasten(self) -> None:
        """An init has come before `warmed`: give up what takes longer than a cold start."""

    async def start(self, plan: Plan) -> Started:
        """Write the plan's files and start the upstream; all or nothing.

        Raises `ActivationError`.
        """

    async def stop(self) -> None:
        """End the upstream with everything it started, and undo the files.

        Idempotent, and safe when nothing runs.
        """

    async def kill(self) -> None:
        """As `stop`, without grace; shortens a stop that is under way."""

    async def signal(self, name: str) -> None:
        """Pass a signal on to the upstream, if one is running that can be reached.

        Raises `ActivationError`.
        """

    def renew(self) -> None:
        """The user has gone for good, and what was warm meanwhile serves nobody else.

        If something new is warmed in its place, `warmed` is another future from here on; so it is
        after a loss of what was warm.
        """

    async def close(self) -> None:
        """Stop, and give up whatever `open` took."""

    def owned_pids(self) -> frozenset[int]:
        """Children of the proxy that are waited for here and nowhere else."""
