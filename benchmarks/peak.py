"""The largest value of something that is looked at again and again, memory for example."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable


class Peak:
    """The largest of what `look` returns while it is entered; `first` is from before.

    `pause` is the time between two looks, in seconds.
    """

    def __init__(self, look: Callable[[], int], pause: float) -> None:
        self.first = self.largest = look()
        self._look = look
        self._pause = pause
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(self._pause):
            self.largest = max(self.largest, self._look())
