"""Running one test on asyncio's own event loop and on uvloop."""

from __future__ import annotations

import asyncio
import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest
import uvloop

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def both_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Make a coroutine function two tests."""

    @functools.wraps(test)
    def run(*args: Any, event_loop_name: str, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=LOOPS[event_loop_name]) as runner:
            runner.run(test(*args, **kwargs))

    signature = inspect.signature(test)
    extra = inspect.Parameter("event_loop_name", inspect.Parameter.KEYWORD_ONLY)
    parameters = [*signature.parameters.values(), extra]
    vars(run)["__signature__"] = signature.replace(parameters=parameters)
    both: Callable[..., None] = pytest.mark.parametrize("event_loop_name", LOOPS)(run)
    return both
