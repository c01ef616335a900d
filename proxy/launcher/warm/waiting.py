"""A child in waiting: forked off the fork server ahead of time, and the launcher's own child.

It has said its number over a socket that only the launcher has the other end of, and ends when that
is closed. The launcher is the one to reap it, so its number is its own until `Children` says that
it has ended, and orders reach it, or nobody.
"""

from __future__ import annotations

import signal

from ..errors import LaunchError
from ..kernel.children import send_signal
from .channel import Channel, serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop

ANSWER_LIMIT = 5.0  # seconds to be born, and to answer; both take milliseconds


class Waiting:
    """`on_change()` is called when it is there (`pid`) and when it is lost (`gone`, with `why`).

    Raises `OSError` when there are no descriptors left.
    """

    def __init__(self, loop: Loop, children: Children, on_change: Callable[[], None]) -> None:
        self._children = children
        self._on_change = on_change
        self._answer: dict[str, Any] | None = None
        self.channel = Channel(loop, self._take, self._lost)
        self.pid: int | None = None
        self.gone = False
        self.why = ""

    def __repr__(self) -> str:
        return "<Waiting pid=%s gone=%s>" % (self.pid, self.gone)

    def born(self, control: Channel) -> bool:
        """Await its birth, without the event loop; `control` may say that it cannot be."""
        serve([self.channel, control], lambda: self.pid is not None or self.gone, ANSWER_LIMIT)
        if self.pid is None:
            self._lost("was not born in time")
        return not self.gone

    def become(self, orders: dict[str, Any], descriptors: list[int]) -> int:
        """Let it be what the orders say; returns its pid, which the caller watches from now on.

        Raises `LaunchError` with the reason when it cannot be, or is no longer there. It is killed
        then, and a stray of `Children.sweep` until it has ended.
        """
        self._on_change = _nothing
        self.channel.send(orders, descriptors)
        serve([self.channel], lambda: self._answer is not None or self.gone, ANSWER_LIMIT)
        pid, answer = self.pid, self._answer
        if pid is None or answer is None or answer.get("why") is not None:
            self.close("the child in waiting does not answer")
            raise LaunchError(self.why if answer is None else str(answer.get("why")))
        self.channel.close()
        self.pid = None
        return pid

    def close(self, why: str) -> None:
        """End it, whether it is there or on its way."""
        self._on_change = _nothing
        self.fail(why)

    def fail(self, why: str) -> None:
        """It is of no use, or will not come."""
        if self.gone:
            return
        self.gone, self.why = True, why
        self.channel.close()
        if self.pid is not None:
            self._children.forget(self.pid)
            send_signal(self.pid, signal.SIGKILL)  # not waited for yet: the number is its own
            self.pid = None
        self._on_change()

    def _take(self, message: dict[str, Any]) -> None:
        if self.pid is not None:
            self._answer = message
            return
        pid = message.get("pid")
        if not isinstance(pid, int) or not self._children.owns(pid):
            self._lost("ended at its birth")
            return
        self.pid = pid
        self._children.watch(pid, self._died)
        self._on_change()

    def _died(self, _code: int, reason: str) -> None:
        self.pid = None
        self._lost(reason)

    def _lost(self, how: str) -> None:
        self.fail("the child in waiting %s" % how)


def _nothing() -> None:
    pass
