"""Who descends from a process, and whether it still lives; read from `/proc` (Linux)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator


class Process(NamedTuple):
    """A process; with its start time, since the kernel uses pids again."""

    pid: int
    started: int  # clock ticks since boot

    @property
    def alive(self) -> bool:
        """Whether it runs; a zombie does not, it only waits to be read."""
        found = _stat(self.pid)
        return found is not None and found[0] == self and found[2] != "Z"


def _stat(pid: int) -> tuple[Process, int, str] | None:
    """The process, its parent's pid and its state letter; see proc_pid_stat(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:  # it is gone
        return None
    fields = text.rpartition(")")[2].split()  # the name before it may hold anything
    return Process(pid, int(fields[19])), int(fields[1]), fields[0]


def _all() -> Iterator[tuple[Process, int, str]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (stat := _stat(int(entry.name))) is not None:
            yield stat


def living_children(pid: int) -> list[int]:
    """The pids of the children of `pid` that are no zombies."""
    return [process.pid for process, parent, state in _all() if parent == pid and state != "Z"]


def descendants(pid: int) -> list[Process]:
    """The process `pid` and everything below it, parents first. Empty when it is gone."""
    children: dict[int, list[Process]] = {}
    found = []
    for process, parent, _ in _all():
        children.setdefault(parent, []).append(process)
        if process.pid == pid:
            found.append(process)
    for process in found:  # grows while it is walked
        found += children.get(process.pid, [])
    return found
