"""Whether the kernel has killed something for want of memory, by the cgroup's own count.

A process that is killed so ends by SIGKILL, as many others do. The count is that of the whole
cgroup (a container, usually), and what it says is a guess only when two die of different causes.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator


class OutOfMemory:
    """`root` is where the cgroup file systems are mounted, `own` what tells our own cgroups."""

    def __init__(self, root: str = "/sys/fs/cgroup", own: str = "/proc/self/cgroup") -> None:
        self._root = root
        self._own = own
        self._before = self._count()

    def has_killed(self) -> bool:
        """Whether it has, since it was made or last asked."""
        before, self._before = self._before, self._count()
        return before is not None and self._before is not None and self._before > before

    def _count(self) -> int | None:
        """None where nobody counts."""
        for path in self._files():
            try:
                with open(path) as file:
                    counts = dict(line.split(None, 1) for line in file if " " in line)
                return int(counts["oom_kill"])
            except (OSError, ValueError, KeyError):
                continue
        return None

    def _files(self) -> Iterator[str]:
        """Version 2, then 1; in a container its own cgroup may be mounted as the root."""
        try:
            with open(self._own) as file:
                lines = [line.rstrip("\n").split(":", 2) for line in file]
        except (OSError, ValueError):
            return
        for number, controllers, path in (line for line in lines if len(line) == 3):
            if number == "0" and not controllers:
                yield self._root + path.rstrip("/") + "/memory.events"
                yield self._root + "/memory.events"
            elif "memory" in controllers.split(","):
                yield self._root + "/memory" + path.rstrip("/") + "/memory.oom_control"
                yield self._root + "/memory/memory.oom_control"
