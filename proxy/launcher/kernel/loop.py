"""The event loop: one thread, selectors, signals through a wakeup descriptor, a few timers.

`run_until` may be nested: an operation that has to wait (a stop) calls it itself, and output,
signals and the controller are served meanwhile. That keeps operations straight code.
"""

from __future__ import annotations

import os
import selectors
import signal
import time

TYPE_CHECKING = False  # typing costs memory at run time
if TYPE_CHECKING:
    from collections.abc import Callable

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._timers: dict[object, tuple[float, Callable[[], None]]] = {}
        # Whoever started us may have blocked some: a SIGCHLD that never comes would be fatal.
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        self._wakeup, write = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(write, False)
        signal.set_wakeup_fd(write, warn_on_full_buffer=False)
        self.watch(self._wakeup, READ, self._signalled)

    def on_signal(self, number: int, callback: Callable[[], None]) -> None:
        """Call `callback()` from the loop, never from the handler, after signal `number`."""
        self._handlers[number] = callback
        signal.signal(number, _ignore)

    def watch(self, fd: int, events: int, callback: Callable[[int], None]) -> None:
        """Call `callback(events)` whenever `fd` is ready for some of `events`."""
        if fd in self._selector.get_map():
            self._selector.modify(fd, events, callback)
        else:
            self._selector.register(fd, events, callback)

    def unwatch(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> object:
        """Call `callback()` once after `seconds`; returns what `cancel` takes."""
        token = object()
        self._timers[token] = (time.monotonic() + seconds, callback)
        return token

    def cancel(self, token: object) -> None:
        self._timers.pop(token, None)

    def run_until(self, done: Callable[[], object], seconds: float | None = None) -> bool:
        """Serve events until `done()` is true, at most `seconds`; whether it became true."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not done():
            if deadline is None:
                self.turn()
            elif time.monotonic() >= deadline:
                return False
            else:
                self.turn(deadline - time.monotonic())
        return True

    def turn(self, seconds: float | None = None) -> None:
        """Wait for events, at most `seconds`, and serve them once."""
        now = time.monotonic()
        waits = [when - now for when, _ in self._timers.values()]
        if seconds is not None:
            waits.append(seconds)
        timeout = max(0.0, min(waits)) if waits else None
        for key, events in self._selector.select(timeout):
            # An earlier callback of this turn may have taken this descriptor off.
            if self._selector.get_map().get(key.fd) is key:
                key.data(events)
        now = time.monotonic()
        for token, (when, callback) in list(self._timers.items()):
            if when <= now and token in self._timers:
                del self._timers[token]
                callback()

    def _signalled(self, _events: int) -> None:
        try:
            numbers = os.read(self._wakeup, 4096)
        except BlockingIOError:
            return
        for number in sorted(set(numbers)):
            handler = self._handlers.get(number)
            if handler:
                handler()


def _ignore(_number: int, _frame: object) -> None:
    """The wakeup descriptor tells the loop; a handler is needed for that."""
