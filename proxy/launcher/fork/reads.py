"""What an audit has heard of names that may be delivered: who did what with which."""

from __future__ import annotations

from ..audit.policy import matches, overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

    from ..audit.audit import Audit, Modules

    Read = tuple[str, Modules]


def reads(audit: Audit, wanted: list[str]) -> list[Read]:
    """What was done with names that fit `wanted`, and the stack of the modules that did it."""
    return list(_reads(audit, [pattern.lower() for pattern in wanted]))


def whole(audit: Audit) -> list[Read]:
    return [("reads the whole environment", stack) for stack in audit.everything]


def _reads(audit: Audit, wanted: list[str]) -> Iterator[Read]:
    for name, stacks in audit.names.items():
        if matches(name, wanted):
            for stack in stacks:
                yield "reads %s" % name, stack
    alike: dict[tuple[str, ...], list[str]] = {}  # few patterns, of many stacks
    for patterns, stack in audit.patterns:
        if patterns not in alike:
            alike[patterns] = [name for name in wanted if _fits(name, patterns)]
        for name in alike[patterns]:
            yield "reads names like %s" % name, stack
    for name, stack in audit.written.items():
        if matches(name, wanted):
            yield "sets %s" % name, stack


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(overlap(name, pattern) for pattern in patterns)
