"""Logging: JSON lines or text on standard error, one record a line, no secrets.

Everything logs through the standard library's `logging` with `extra=` fields. Whatever was
delivered to the upstream is masked in every record, its own output included.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any, Final, TextIO

from proxy.log.logpipe import PipeHandler

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
        return {key: self._masked(value) for key, value in _extras(record).items()}

    def _masked(self, value: Any) -> Any:
        """`value` with every text in it masked; what is no JSON becomes text first."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {self._mask(str(key)): self._masked(item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item) for item in value]
        return self._mask(str(value))


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
        return json.dumps(line, ensure_ascii=False)


_COLOURS: Final = {
    logging.DEBUG: "\x1b[2m",
    logging.INFO: "\x1b[36m",
    logging.WARNING: "\x1b[33m",
    logging.ERROR: "\x1b[31m",
    logging.CRITICAL: "\x1b[1;31m",
}
_DIM: Final = "\x1b[2m"
_PLAIN: Final = "\x1b[0m"
# Whatever an upstream prints must not steer the terminal of whoever reads the log.
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class TextFormatter(_Formatter):
    """`12:00:01.123 INFO  proxy.server.serve: listening address=127.0.0.1:8000`."""

    def __init__(self, mask: Callable[[str], str], *, coloured: bool) -> None:
        super().__init__(mask)
        self._coloured = coloured

    def format(self, record: logging.LogRecord) -> str:
        message, error = self._text(record)
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level, name = f"{record.levelname:<7}", f"{record.name}:"
        fields = " ".join(f"{key}={_shown(value)}" for key, value in self._fields(record).items())
        message, fields = _harmless(message), _harmless(fields)
        if self._coloured:
            level = f"{_COLOURS.get(record.levelno, '')}{level}{_PLAIN}"
            name, fields = f"{_DIM}{name}{_PLAIN}", f"{_DIM}{fields}{_PLAIN}" if fields else ""
        head = f"{stamp}.{int(record.msecs):03d} {level} {name} {message} {fields}".rstrip()
        return "\n".join(part for part in (head, error and _harmless(error)) if part)


def _harmless(text: str) -> str:
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _handler(stream: TextIO) -> logging.Handler:
    try:
        descriptor = stream.fileno()
    except io.UnsupportedOperation:
        return logging.StreamHandler(stream)  # in memory: never full
    return PipeHandler(descriptor, encoding=stream.encoding)


class Log:
    """The process's one log handler; `mask` may be exchanged while running."""

    def __init__(self, level: str, form: str, stream: TextIO = sys.stderr) -> None:
        self.mask: Callable[[str], str] = str
        handler = _handler(stream)
        # https://no-color.org
        coloured = stream.isatty() and not os.environ.get("NO_COLOR")
        handler.setFormatter(
            JsonFormatter(self.masked)
            if form == "json"
            else TextFormatter(self.masked, coloured=coloured)
        )
        root = logging.getLogger()
        root.handlers[:] = [handler]
        root.setLevel(level.upper())

    def masked(self, text: str) -> str:
        """`text` as it may be shown, by the mask of the moment."""
        return self.mask(text)
