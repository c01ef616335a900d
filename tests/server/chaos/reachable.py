"""Runs inside a process under test: tells which objects that its program can reach hold a text.

On SIGRTMIN, which the proxy passes on to nobody, every object that can be reached from a module, a
frame or the collector is looked at. The spellings of the text are in a file, in hexadecimal, so
that looking for it is not having it; the ways to what holds one go to the same name with `.answer`.
"""

from __future__ import annotations

import functools
import gc
import io
import json
import signal
import sys
from collections import deque
from pathlib import Path

_STEPS = 12  # shown of the way to an object


def install(place: str) -> None:
    signal.signal(signal.SIGRTMIN, functools.partial(_answer, Path(place)))


def _answer(place: Path, *_: object) -> None:
    gc.collect()
    spellings = [bytes.fromhex(line) for line in place.read_text().split()]
    part = place.with_suffix(".part")
    part.write_text(json.dumps(_ways(spellings)))
    part.rename(place.with_suffix(".answer"))


def _ways(spellings: list[bytes]) -> list[str]:
    above: dict[int, object] = {}
    waiting: deque[object] = deque([*sys.modules.values(), *gc.get_objects()])
    waiting.extend(sys._current_frames().values())
    seen = {id(one): one for one in waiting}  # holds them, so that no id is used twice
    ours = {id(one) for one in (spellings, *spellings, above, waiting, seen)}
    ours |= {id(sys._getframe()), id(sys._getframe(1))}
    ours.add(id(ours))
    found = []
    while waiting:
        one = waiting.popleft()
        if id(one) in ours:
            continue
        if _holds(one, spellings):
            found.append(_way(one, above))
        for other in gc.get_referents(one):
            if id(other) not in seen:
                seen[id(other)] = other
                above[id(other)] = one
                waiting.append(other)
    return found


def _holds(one: object, spellings: list[bytes]) -> bool:
    if isinstance(one, str):
        content = one.encode("utf-8", "surrogatepass")
    elif isinstance(one, (bytes, bytearray, memoryview)):
        content = bytes(one)
    elif isinstance(one, io.BytesIO):
        content = one.getvalue()
    else:
        return False
    return any(spelling in content for spelling in spellings)


def _way(one: object, above: dict[int, object]) -> str:
    steps: list[str] = []
    while len(steps) < _STEPS:
        steps.append(f"{type(one).__module__}.{type(one).__qualname__}")
        if id(one) not in above:
            break
        one = above[id(one)]
    return " < ".join(steps)
