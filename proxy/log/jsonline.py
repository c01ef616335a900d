"""An upstream's line that is a JSON record: its message, its level, and its other fields.

Pure. What is no such record, or could not be written down again as it is, stays a line of text.
"""

from __future__ import annotations

import json
import logging
import math
from typing import Any, Final, NamedTuple

_MESSAGES: Final = ("message", "msg", "event")
_LEVELS: Final = ("level", "levelname", "severity", "log.level")
_NAMES: Final = logging.getLevelNamesMapping() | {
    "TRACE": logging.DEBUG,
    "NOTICE": logging.INFO,
    "ERR": logging.ERROR,
    "EMERGENCY": logging.CRITICAL,
    "ALERT": logging.CRITICAL,
    "PANIC": logging.CRITICAL,
}
# Brackets in one line. Records are flat; what is nested for ever costs a recursion to mask.
_NESTED: Final = 200


class Record(NamedTuple):
    message: str
    level: int
    fields: dict[str, Any]


def read_record(line: str) -> Record | None:
    """The record that `line` is, or None. `fields` are all but the message."""
    text = line.strip()
    if text[:1] != "{" or text[-1:] != "}" or text.count("{") + text.count("[") > _NESTED:
        return None
    try:
        fields = json.loads(text, parse_constant=_refuse, parse_float=_finite)
    except ValueError:
        return None
    named = next((name for name in _MESSAGES if isinstance(fields.get(name), str)), None)
    message = fields.pop(named) if named is not None else ""
    return Record(message, _level(fields), fields)


def _level(fields: dict[str, Any]) -> int:
    """Of its name, or of a number as Python and pino count."""
    said = next((fields[name] for name in _LEVELS if name in fields), None)
    if isinstance(said, str):
        return _NAMES.get(said.upper()) or logging.INFO
    if isinstance(said, int) and not isinstance(said, bool) and said > 0:
        return min(max(said // 10 * 10, logging.DEBUG), logging.CRITICAL)
    return logging.INFO


def _refuse(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is too large")
    return value
