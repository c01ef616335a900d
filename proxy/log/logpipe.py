"""The log's way out: a descriptor whose reader may be slow, or stand still.

Whoever writes to a full pipe waits for its reader, and the event loop must not wait for a log
shipper. So a line is written at once as long as the descriptor surely takes it; what it does not
take is queued, and a thread does the waiting. It is there from the start: when it is needed, the
pod may be at its limit of processes. The queue is bounded: when it is full, lines are dropped and
counted until half of it is free again, and the count is logged in their place.
"""

from __future__ import annotations

import collections
import logging
import os
import select
import signal
import threading
from typing import Final

# Bytes that wait for the reader: some thousand lines, and little beside what a pod has.
_QUEUED: Final = 1024 * 1024
# Bytes that never block a descriptor which polls as writable (POSIX's PIPE_BUF, on Linux).
_AT_ONCE: Final = 4096
# Seconds that the end of the process waits for a reader that stands still.
LAST_WORDS: Final = 2.0

_STALLED: Final = "log records were dropped: whoever reads the log is too slow"


class PipeHandler(logging.Handler):
    """Writes records to `descriptor`, in order, and never waits for it.

    `queued` is the most bytes that are kept. Raises `RuntimeError` when no thread can be had.
    """

    def __init__(self, descriptor: int, *, encoding: str = "utf-8", queued: int = _QUEUED) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._encoding = encoding
        self._most = queued
        self._writable = select.poll()
        self._writable.register(descriptor, select.POLLOUT)
        # What is written is taken off the queue afterwards, so an empty one means an idle thread.
        self._queue: collections.deque[bytes] = collections.deque()
        self._size = 0
        self._dropped = 0
        self._changed = threading.Condition()
        # Signals are the main thread's: at the end they have no handler left for a moment, and
        # would be fatal to a process in which any thread takes them.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            threading.Thread(target=self._work, name="log writer", daemon=True).start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._line(record)
        except Exception as error:  # noqa: BLE001  as every handler: a log call never fails
            try:
                line = self._line(_instead_of(record, error))
            except Exception:  # noqa: BLE001  nor may it say anything unmasked
                return
        with self._changed:
            if not self._queue:
                line = self._write_now(line)
            if line:
                self._keep(line)

    def flush(self) -> None:
        """Wait until everything is written, at most `LAST_WORDS` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._queue, LAST_WORDS)

    def _line(self, record: logging.LogRecord) -> bytes:
        return (self.format(record) + "\n").encode(self._encoding, "backslashreplace")

    def _write_now(self, data: bytes) -> bytes:
        """Write as much as surely does not block; the rest."""
        try:
            while data and self._writable.poll(0):
                data = data[os.write(self._descriptor, data[:_AT_ONCE]) :]
        except BlockingIOError:  # somebody who shares the descriptor wants it so
            return data
        except OSError:
            return b""  # nobody reads any more: there is nobody to tell
        return data

    def _keep(self, data: bytes) -> None:
        if self._dropped or (self._queue and self._size + len(data) > self._most):
            self._dropped += 1
            return
        self._queue.append(data)
        self._size += len(data)
        self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue)
                data = self._queue[0]
            self._write(data)
            with self._changed:
                self._queue.popleft()
                self._size -= len(data)
                if self._dropped and self._size <= self._most // 2:
                    self._report()
                self._changed.notify_all()

    def _write(self, data: bytes) -> None:
        """Write everything, however long the reader takes."""
        while data:
            try:
                self._writable.poll()
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                continue
            except OSError:
                return

    def _report(self) -> None:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, _STALLED, None, None)
        record.dropped = self._dropped
        self._dropped = 0
        self._keep(self._line(record))

    def __repr__(self) -> str:
        return f"<PipeHandler {self._descriptor} queued={self._size} dropped={self._dropped}>"


def _instead_of(record: logging.LogRecord, error: Exception) -> logging.LogRecord:
    """For one that cannot be formatted: of it logging itself would print the message, unmasked."""
    told = logging.LogRecord(
        __name__, logging.ERROR, __file__, 0, "cannot format a log record", None, None
    )
    told.origin = f"{record.filename}:{record.lineno}"
    told.fault = type(error).__name__
    return told
