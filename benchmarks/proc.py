"""What a process costs, read from `/proc` (Linux): proc(5) names every field used here."""

from __future__ import annotations

import os
from pathlib import Path


class UnmeasuredError(Exception):
    """A number cannot be had on this machine; the text says why."""


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        raise UnmeasuredError(f"cannot read {path}: {error.strerror}") from None


def proportional(pid: int) -> int:
    """Bytes of memory (Pss): private pages, and of each shared one its fraction.

    A process that is not dumpable, as the proxy is, tells only root.
    """
    for line in _read(f"/proc/{pid}/smaps_rollup").splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024
    raise UnmeasuredError(f"/proc/{pid}/smaps_rollup has no Pss")


def resident(pid: int) -> int:
    """Bytes of memory (RSS): every page that is mapped in, shared ones in full."""
    return int(_read(f"/proc/{pid}/statm").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def processor_time(pid: int) -> float:
    """Seconds on a processor so far, all threads, to the nanosecond (stat counts in 10 ms)."""
    directory = f"/proc/{pid}/task"
    try:
        tasks = list(Path(directory).iterdir())
    except OSError as error:
        raise UnmeasuredError(f"cannot read {directory}: {error.strerror}") from None
    return sum(int(_read(f"{task}/schedstat").split()[0]) for task in tasks) / 1e9
