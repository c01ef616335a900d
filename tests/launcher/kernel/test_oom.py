"""The kernel's count of what it killed for want of memory, from both versions of cgroups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.launcher.kernel.oom import OutOfMemory

if TYPE_CHECKING:
    from pathlib import Path

V1 = "9:cpu:/\n4:memory,hugetlb:/pod/me\n0::/\n"
V2 = "0::/pod/me\n"


@pytest.mark.parametrize(
    ("own", "place"),
    [
        (V2, "pod/me/memory.events"),
        (V2, "memory.events"),
        (V1, "memory/pod/me/memory.oom_control"),
        (V1, "memory/memory.oom_control"),
    ],
)
def test_a_kill_is_told_once(tmp_path: Path, own: str, place: str) -> None:
    (tmp_path / "own").write_text(own)
    counts = tmp_path / place
    counts.parent.mkdir(parents=True, exist_ok=True)
    counts.write_text("low 0\noom 4\noom_kill 2\n")
    memory = OutOfMemory(str(tmp_path), str(tmp_path / "own"))
    assert not memory.has_killed()
    counts.write_text("low 0\noom 5\noom_kill 3\n")
    assert memory.has_killed()
    assert not memory.has_killed()


@pytest.mark.parametrize("counts", [None, "", "oom_kill\n", "oom_kill x\n", "under_oom 0\n"])
def test_without_a_count_nothing_is_said(tmp_path: Path, counts: str | None) -> None:
    (tmp_path / "own").write_text(V2)
    if counts is not None:
        (tmp_path / "memory.events").write_text(counts)
    assert not OutOfMemory(str(tmp_path), str(tmp_path / "own")).has_killed()
    assert not OutOfMemory(str(tmp_path), str(tmp_path / "none")).has_killed()
