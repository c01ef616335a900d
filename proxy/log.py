"""Logging: JSON lines or text on standard error, one record a line, no secrets.

Everything logs through the standard library's `logging` with `extra=` fields. Whatever was
delivered to the upstream is masked in every record, its own output included.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


class _Formatter(logging.Formatter):
    def __init__(self, mask: Callable[[str], str]) -> None:
        super().__init__()
        self._mask = mask

    def _text(self, record: logging.LogRecord) -> tuple[str, str | None]:
        error = self.formatException(record.exc_info) if record.exc_info else None
        return self._mask(record.getMessage()), self._mask(error) if error else None

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        return {
            key: self._mask(value) if isinstance(value, str) else value
            for key, value in _extras(record).items()
        }


class JsonFormatter(_Formatter):
    """`{"time": …, "level": …, "logger": …, "message": …, …extra fields}`."""

    def format(self, record: logging.LogRecord) -> str:
        message, error = self._text(record)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": message,
        }
        line |= self._fields(record)
        if error:
            line["exception"] = error
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(_Formatter):
    """`12:00:01.123 INFO  proxy.serve: listening address=127.0.0.1:8000`."""

    def format(self, record: logging.LogRecord) -> str:
        message, error = self._text(record)
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        head = f"{stamp}.{int(record.msecs):03d} {record.levelname:<7} {record.name}: {message}"
        fields = " ".join(f"{key}={value}" for key, value in self._fields(record).items())
        return "\n".join(part for part in (f"{head} {fields}".rstrip(), error) if part)


class Log:
    """The process's one log handler; `mask` may be exchanged while running."""

    def __init__(self, level: str, form: str, stream: TextIO = sys.stderr) -> None:
        self.mask: Callable[[str], str] = str
        formatter = JsonFormatter if form == "json" else TextFormatter
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter(self.masked))
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(level.upper())

    def masked(self, text: str) -> str:
        """`text` as it may be shown, by the mask of the moment."""
        return self.mask(text)
