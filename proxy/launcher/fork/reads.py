"""What an audit has heard of names that may be delivered: who did what with which.

It may go on hearing meanwhile, in other threads.
"""

from __future__ import annotations

from ..audit.policy import always_cold, matches, overlap

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterable, Iterator

    from ..audit.audit import Audit, Modules

    Read = tuple[str, Modules]


def reads(audit: Audit, wanted: list[str], settled: Iterable[str]) -> list[Read]:
    """What was done with names that fit `wanted`, and the stack of the modules that did it.

    With a name that the interpreter itself has read a start is cold, whatever modules do with it:
    nobody is told of for the `settled` ones.
    """
    known = set(settled)
    found = _reads(audit, [pattern.lower() for pattern in wanted])
    return [(why, stack) for name, why, stack in found if name not in known]


def whole(audit: Audit) -> list[Read]:
    return [("reads the whole environment", stack) for stack in list(audit.everything)]


def _reads(audit: Audit, wanted: list[str]) -> Iterator[tuple[str, str, Modules]]:
    for name, stacks in list(audit.names.items()):
        if matches(name, wanted) and not always_cold(name):
            for stack in list(stacks):
                yield name, "reads %s" % name, stack
    alike: dict[tuple[str, ...], list[str]] = {}  # few patterns, of many stacks
    for patterns, stack in list(audit.patterns):
        if patterns not in alike:
            alike[patterns] = [name for name in wanted if _fits(name, patterns)]
        for name in alike[patterns]:
            yield "", "reads names like %s" % name, stack
    for name, stack in list(audit.written.items()):
        if matches(name, wanted):
            yield name, "sets %s" % name, stack


def _fits(name: str, patterns: tuple[str, ...]) -> bool:
    return any(overlap(name, pattern) for pattern in patterns)
