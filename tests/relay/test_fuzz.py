"""A bounded run of the fuzzer; `python -m tests.relay.raw.fuzz SECONDS` runs it for longer.

So does `python -m tests.relay.raw.guided`, with what coverage tells.
"""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from tests.relay.raw import fuzz
from tests.relay.raw.targets import TARGETS

if TYPE_CHECKING:
    from collections.abc import Callable

SECONDS = float(os.environ.get("FUZZ_SECONDS", "2"))


@pytest.mark.timeout(SECONDS + 60)
def test_nothing_raises_and_nothing_gets_through_that_should_not() -> None:
    # A fixed seed, so that a failure stands until it is repaired.
    assert fuzz.run(SECONDS, seed=20_26) > 0


@pytest.mark.parametrize("target", TARGETS.values(), ids=TARGETS)
def test_pure_parts_hold_for_mutated_cases(target: Callable[[bytes], None]) -> None:
    rng = random.Random(20_26)
    requests = fuzz.REQUESTS + [case.partition(b"\r\n\r\n")[2] for case in fuzz.REQUESTS]
    for case in (requests + fuzz.RESPONSES) * 3:
        target(rng.randbytes(1) + fuzz.mutated(rng, case))
