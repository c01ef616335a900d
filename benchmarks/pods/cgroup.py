"""What a container costs, as its control group accounts for it (version 1 or 2).

The kubelet and the kernel's limit see the same numbers. Memory is the working set, what the kubelet
evicts by: everything charged to the group, without file pages that nobody has used for a while.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class ControlGroup:
    """Of one container, by the directories of its memory and its processor accounting."""

    memory: Path
    processor: Path

    @classmethod
    def of(cls, pid: int) -> ControlGroup:
        """That of the process `pid`, by cgroups(7)."""
        places = {}
        for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            for controller in controllers.split(","):
                places[controller] = path.lstrip("/")
        if "memory" in places:
            return cls(_ROOT / "memory" / places["memory"], _ROOT / "cpuacct" / places["cpuacct"])
        return cls(_ROOT / places[""], _ROOT / places[""])

    def working_set(self) -> int:
        """Bytes."""
        first = self.memory / "memory.usage_in_bytes"
        charged = first if first.exists() else self.memory / "memory.current"
        statistics = dict(
            line.split() for line in (self.memory / "memory.stat").read_text().splitlines()
        )
        idle = statistics.get("total_inactive_file", statistics.get("inactive_file", "0"))
        return int(charged.read_text()) - int(idle)

    def processor_time(self) -> float:
        """Seconds on a processor since the container's start."""
        first = self.processor / "cpuacct.usage"
        if first.exists():
            return int(first.read_text()) / 1e9
        lines = (self.processor / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6
