"""The benchmark of those who wait, in small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.watching.__main__ import Round

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_everybody_of_a_small_crowd_hears_after_the_change(tmp_path: Path) -> None:
    done = Round(4, 3, str(tmp_path))
    assert (
        sorted(heard.kind for heard in done.heard) == ["held"] * 3 + ["poll"] * 2 + ["stream"] * 2
    )
    assert all(0 < heard.arrived <= heard.read for heard in done.heard)
    assert done.took > 0
