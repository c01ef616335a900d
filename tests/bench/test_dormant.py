from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from benchmarks.proc import UnmeasuredError, processor_time, proportional, resident
from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Under the temporary directory itself: the paths of its Unix sockets must be short."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


async def test_the_benchmark_measures_everything_and_leaves_nothing(
    tmp_path: Path, scratch: Path
) -> None:
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.dormant", "--runs", "1", "--rest", "0.1"),
        *("--json", str(report)),
        cwd=ROOT, env=clean_environment(TMPDIR=str(scratch)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(240):
            output, errors = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode == 0, errors.decode()
    rows = json.loads(report.read_text())["rows"]
    assert [row["name"] for row in rows if row["bar"] is not None] == [
        "boot to 200 on /health",
        "upstream begins to listen, to 200 on POST",
        "upstream answers 200, to 200 on POST",
        "memory, dormant",
        "processor at rest",
        "growth over 100 MB down",
        "growth over 100 MB up",
    ]
    for row in rows:
        assert row["name"] in output.decode()
        # The kernel may keep the proportional memory of an undumpable process from us.
        assert row["value"] is not None or "Permission denied" in row["note"]
    assert list(scratch.iterdir()) == []


async def test_what_cannot_be_read_is_said_with_its_reason() -> None:
    process = await asyncio.create_subprocess_exec("true")
    await process.wait()
    for measure in (proportional, resident, processor_time):
        with pytest.raises(UnmeasuredError, match=f"cannot read /proc/{process.pid}/.*: No such"):
            measure(process.pid)


async def test_processor_time_counts_what_was_used() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "sum(range(3_000_000)); print(flush=True); input()",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    await process.stdout.readline()
    assert 0 < processor_time(process.pid) < 60
    assert resident(process.pid) > 1_000_000
    await process.communicate(b"\n")
