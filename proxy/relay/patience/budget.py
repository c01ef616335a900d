"""How much is kept for all clients together until they are served.

A connection that costs little is bounded by how many there may be. One that has us keep a large
head, requests behind another, or a body that nobody takes is charged here by its bytes. Whoever
asks for more than is left is turned away: those who came before keep what they have, and a request
of the usual size, a probe's or an init's, is never charged and so always served.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Bytes. With what a process of ours needs by itself, and as many connections as there may be,
# it stays under the 256 MiB of the manifests.
ALL_CLIENTS: Final = 48 * 1024 * 1024

# Bytes besides, for an init with a large body while the others have used up theirs.
RESERVE: Final = 8 * 1024 * 1024

# Up to here a connection's bytes are part of what any connection costs.
FREE: Final = 2048


class Budget:
    """`used` of `most` bytes; one for all connections."""

    def __init__(self, most: int = ALL_CLIENTS) -> None:
        self.most = most
        self.used = 0

    def __repr__(self) -> str:
        return f"<Budget {self.used} of {self.most}>"


@dataclass(slots=True, eq=False)
class Share:
    """What one connection is charged."""

    _budget: Budget
    size: int = 0

    def charge(self, size: int, *, reserve: bool = False) -> bool:
        """It keeps `size` bytes in place of what it kept; whether that is within the budget.

        `reserve`: it may use what is kept back.
        """
        if size <= FREE:
            size = 0
        grown = size - self.size
        if not grown:
            return True
        self.size = size
        budget = self._budget
        budget.used += grown
        return grown < 0 or budget.used <= budget.most + (RESERVE if reserve else 0)
