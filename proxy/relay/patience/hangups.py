"""Clients that go while nobody reads what they send.

An end is told to whoever reads, and a client whose bytes have no place to go is not read. So the
kernel is asked about these from time to time, lest they hold a place and an upstream connection
for as long as that lasts.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    import asyncio

_BROKEN: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL
# Ended in one turn of the loop; the others are found again in the next.
_AT_ONCE: Final = 64


class Unread(Protocol):
    def fileno(self) -> int: ...

    @property
    def ended(self) -> bool:
        """Whether it is known that it sends no more."""

    def hung_up(self, *, broken: bool) -> None:
        """The client sends no more; `broken`: nor can it be sent anything."""


class Hangups:
    """Looks every `seconds` at those who are watched, if there are any; `looks` counts.

    `halves`: a client may end its side of the connection, and be no less there.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, *, halves: bool = False
    ) -> None:
        self._loop = loop
        self._seconds = seconds
        self._asked = 0 if halves else select.POLLRDHUP
        self._unread: set[Unread] = set()
        self._timer: asyncio.Handle | None = None
        self.looks = 0

    def watch(self, client: Unread) -> None:
        self._unread.add(client)
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._look)

    def forget(self, client: Unread) -> None:
        self._unread.discard(client)

    def close(self) -> None:
        self._unread.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        self.looks += 1
        poll = select.poll()
        clients = {client.fileno(): client for client in self._unread}
        for descriptor, client in clients.items():
            poll.register(descriptor, 0 if client.ended else self._asked)
        gone = poll.poll(0)
        if len(gone) > _AT_ONCE:
            self._timer = self._loop.call_soon(self._look)
        elif self._unread:
            self._timer = self._loop.call_later(self._seconds, self._look)
        for descriptor, events in gone[:_AT_ONCE]:
            clients[descriptor].hung_up(broken=bool(events & _BROKEN))
