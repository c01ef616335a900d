"""Notices what modules draw at random while they are preloaded.

A module that draws a key, an id or a seed at its import and keeps it has the same one in every
process that is forked from here. For the first of them that is as good as a fresh one: nobody else
uses it. The next would repeat it, as no cold start does. So a fork server in which something was
drawn serves one start, except for draws of which it is known that they may be repeated, and for
generators, which are seeded anew in every child (see `anew`).

What is drawn by native code is not seen here.
"""

from __future__ import annotations

import os
import random
import sys
import weakref

from ...audit.stack import modules
from .wrapping import Wrapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType
    from typing import Any, Callable

# (module, function) -> why its draw may be the same in every fork; each was looked at.
HARMLESS = {
    ("multiprocessing.process", "__init__"): "the authentication key is made anew in the child",
    ("tempfile", "rng"): "it looks at the pid before it uses its generator",
    ("opentelemetry.context", "create_key"): "names variables within one process",
    ("opentelemetry.sdk.resources", "detect"): "an instance's id in its telemetry",
    ("rich.style", "<module>"): "numbers links on a terminal",
    ("openai.lib.bedrock", "<module>"): "compares settings within one process",
    ("litellm.integrations.custom_guardrail", "<module>"): "marks calls within one process",
    ("browser_use.browser.profile", "set_default_downloads_path"): "a directory of the same user",
}
_SHARED = random._inst  # noqa: SLF001  what `random.choice` is of
_SOURCES: tuple[tuple[object, str], ...] = (
    (os, "urandom"),
    (os, "getrandom"),
    (random, "_urandom"),  # of SystemRandom, and so of `secrets`
    (random, "random"),
    (random, "getrandbits"),
    (_SHARED, "random"),  # what its other methods are made of
    (_SHARED, "getrandbits"),
)


class Draws:
    """`drawn`: module -> what it has drawn. `generators` are those that the system has seeded."""

    def __init__(self) -> None:
        self.drawn: dict[str, str] = {}
        self.authkey: bytes | None = None  # of multiprocessing
        self._generators: list[tuple[weakref.ref[random.Random], int, str]] = []
        self._wrapping = Wrapping()
        self._seed = random.Random.seed

    def install(self) -> None:
        for owner, name in _SOURCES:
            self._wrapping.put(owner, name, self._draw)
        seed = self._seed

        def seeded(generator: random.Random, *args: Any, **options: Any) -> None:
            seed(generator, *args, **options)
            self._generators = [one for one in self._generators if one[0]() is not generator]
            if (args[0] if args else options.get("a")) is None:
                self._note_generator(generator)

        random.Random.seed = seeded  # type: ignore[method-assign,assignment]

    def remove(self) -> None:
        """Put everything back, and see which generators have been used."""
        random.Random.seed = self._seed  # type: ignore[method-assign]
        self._wrapping.remove()
        for reference, state, module in self._generators:
            generator = reference()
            if generator is not None and _state(generator) != state:
                self.drawn.setdefault(module, "has used a generator of random numbers")

    def generators(self) -> list[random.Random]:
        """Those to be seeded anew in a child."""
        found = [reference() for reference, _, _ in self._generators]
        return [generator for generator in found if generator is not None]

    def _draw(self, function: Callable[..., Any], *args: Any) -> Any:
        value = function(*args)
        frame = sys._getframe(1)  # noqa: SLF001
        if frame.f_globals.get("__name__") == "multiprocessing.process":
            self.authkey = value
        if not _is_harmless(frame):
            self.drawn.setdefault(modules()[0], "has drawn a random number")
        return value

    def _note_generator(self, generator: random.Random) -> None:
        if not isinstance(generator, random.SystemRandom) and not _is_harmless(sys._getframe(2)):  # noqa: SLF001
            known = weakref.ref(generator), _state(generator), modules()[0]
            self._generators.append(known)


def _state(generator: random.Random) -> int:
    return hash(super(random.Random, generator).getstate())


def _is_harmless(frame: FrameType | None) -> bool:
    """Whether a draw in `frame` is, as far up as the module that is being imported."""
    while frame is not None:
        name, function = frame.f_globals.get("__name__"), frame.f_code.co_name
        if (name, function) in HARMLESS or ("%s." % name).startswith("numpy.random."):
            return True
        if function == "<module>":
            return False
        frame = frame.f_back
    return False
