"""Where a fork server's children are born, one ahead of the start that it is for."""

from __future__ import annotations

from ..errors import LaunchError, cause
from .waiting import Waiting

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Callable

    from ..kernel.children import Children
    from ..kernel.loop import Loop
    from .channel import Channel

QUIET = 5.0  # seconds after a start, or a loss, until the next child is made: the start goes first
BIRTHS = 3  # children that may be lost before one was there


class Cradle:
    """`on_first()` is told of the first child, `on_barren(why)` that there has never been one."""

    def __init__(
        self,
        loop: Loop,
        children: Children,
        *,
        on_first: Callable[[], None],
        on_barren: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._children = children
        self._on_first = on_first
        self._on_barren = on_barren
        self._channel: Channel | None = None
        self._next: object = None  # until the next child is made
        self._child: Waiting | None = None
        self._births = 0
        self._fertile = False  # there was one
        self.why = ""  # there is none

    def open(self, channel: Channel) -> None:
        """The fork server has imported everything."""
        self._channel = channel
        self._bear()

    def child(self) -> Waiting:
        """The child, made if there is none, and another one later. Raises `LaunchError`."""
        for _ in range(BIRTHS):  # one on its way may have been swept away as a stray
            self._bear()
            child = self._child
            if child is None or self._channel is None:
                break
            if child.born(self._channel):
                return child
        raise LaunchError(self.why)

    def given(self) -> None:
        """The child is about to be an upstream."""
        self._child = None
        self._later(QUIET)

    def fail(self, why: str) -> None:
        """The fork server could not make one."""
        if self._child is not None:
            self._child.fail(why)

    def close(self, why: str) -> None:
        self.why = why
        self._loop.cancel(self._next)
        self._channel = None
        if self._child is not None:
            self._child.close(why)
            self._child = None

    def _bear(self) -> None:
        """Ask for a child, unless one is there or on its way."""
        if self._child is not None or self._channel is None:
            return
        self._loop.cancel(self._next)
        self._births += 1
        try:
            child = Waiting(self._loop, self._children, lambda: self._changed(child))
        except OSError as error:
            self._unborn(cause(error))
            return
        self._child = child
        self._channel.send({"op": "child"}, [child.channel.other.fileno()])
        child.channel.other.close()

    def _changed(self, child: Waiting) -> None:
        if child is not self._child:
            return
        if child.gone:
            self._child = None
            self._unborn(child.why)
        elif not self._fertile:
            self._fertile = True
            self._on_first()

    def _unborn(self, why: str) -> None:
        """There is no child: another one soon, unless there has never been one."""
        self.why = why
        if not self._fertile and self._births >= BIRTHS:
            self._on_barren(why)
        else:
            self._later(QUIET if self._fertile else 0)

    def _later(self, seconds: float) -> None:
        self._loop.cancel(self._next)
        self._next = self._loop.later(seconds, self._bear)
