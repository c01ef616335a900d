"""What the ways to wait have in common: one Protocol, and what waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from proxy.errors import ActivationError

if TYPE_CHECKING:
    from proxy.activation.starter import Found, Started, StartKind
    from proxy.lifecycle.plan import Plan


class UnfitError(ActivationError):
    """The upstream cannot wait in this way, and need not be tried again."""


class FallenError(ActivationError):
    """The upstream ended before it waited, as it may once, and not every time."""


@dataclass(frozen=True)
class Waiting:
    """An upstream that waits, and the plan that it was started by."""

    started: Started
    plan: Plan


class Way(Protocol):
    """How an upstream waits for an init, and how it is told of one.

    `kind` is what a start is called that came about so.
    """

    kind: StartKind

    async def hopeless(self) -> str | None:
        """Why no upstream is to be tried at all, or None."""

    async def come_up(self) -> Waiting:
        """Start one, and return when it waits.

        Raises `UnfitError`, `FallenError`, and `ActivationError` where another try may help.
        """

    async def is_vacant(self, plan: Plan) -> bool:
        """Whether nobody was told that the upstream, which runs by `plan`, is ready."""

    async def adopt(self, found: Found) -> Waiting | None:
        """One that a predecessor has left; None when it does not wait any more."""

    def objection(self, plan: Plan) -> str | None:
        """Why it is not to be told of `plan`, whoever waits, or None."""

    async def tell(self, waiting: Waiting, plan: Plan) -> str | None:
        """Return when the init is in force, or why it is to be started anew.

        Raises `ActivationError`: whoever shows its text masks it before it is cut. `UnfitError`
        when no upstream is to be told any more.
        """

    async def complete(self, started: Started, plan: Plan) -> None:
        """See to what a start anew leaves open. Raises `ActivationError`."""
