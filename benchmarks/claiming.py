"""An init as its sender sees it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.proxied import BenchmarkError

if TYPE_CHECKING:
    from collections.abc import Callable
    from http.client import HTTPConnection


def claim(connect: Callable[[], HTTPConnection], body: str, key: str) -> float:
    """Seconds from before the connection to the end of the answer, which must be 200."""
    begun = time.monotonic()
    connection = connect()
    connection.request("POST", "/api/init", body, {"X-Init-API-Key": key})
    answer = connection.getresponse()
    text = answer.read()
    taken = time.monotonic() - begun
    connection.close()
    if answer.status != 200:
        raise BenchmarkError(f"init answered {answer.status}: {text!r}")
    return taken
