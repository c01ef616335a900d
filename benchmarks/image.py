"""What the proxy's image weighs, and how soon a container of it answers.

    python -m benchmarks.image [--runs N] [--check]

As root, with podman and the images of `.ci/containers`. The containers are hardened as the
restricted Pod Security profile has it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import UTC, datetime

from tests.containers.podman import BASE_IMAGE, HARDENED, KEY, PROXY_IMAGE, Container, podman

SIZE_BAR = 90.0  # MB, uncompressed, above the base
START_BAR = 1.2  # seconds
PATIENCE = 30.0
POLL = 0.002


class BenchmarkError(Exception):
    """A container did not do what is to be measured."""


def size(image: str) -> float:
    """MB, uncompressed."""
    return int(json.loads(podman("image", "inspect", image))[0]["Size"]) / 1e6


def start() -> tuple[float, float]:
    """Seconds to 200 on `/health`: since `podman run` was called, since its process was started."""
    called = time.time()
    name = podman("run", "--detach", *HARDENED, "--env", f"OH_SECRET_KEY={KEY}", PROXY_IMAGE)
    try:
        container = Container(name)
        pid = container.pid
        while time.time() - called < PATIENCE:
            if healthy(container, pid):
                answered = time.time()
                began = container.inspect()["State"]["StartedAt"]
                return answered - called, answered - seconds(began)
            time.sleep(POLL)
        raise BenchmarkError(f"no /health in {PATIENCE} s:\n{container.last_words()}")
    finally:
        podman("rm", "--force", "--time", "0", name)


def healthy(container: Container, pid: int) -> bool:
    try:
        connection = container.connection(pid)
    except OSError:
        return False
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    finally:
        connection.close()


def seconds(stamp: str) -> float:
    """Of an RFC 3339 time in UTC, since the epoch; it has nanoseconds, which Python has not."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    return datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp() + float(f"0.{fraction}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.image", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--check", action="store_true", help="exit with 1 when a bar is missed")
    arguments = parser.parse_args()
    above = size(PROXY_IMAGE) - size(BASE_IMAGE)
    called, began = zip(*(start() for _ in range(arguments.runs)), strict=True)
    print(f"image of the proxy: {above:.1f} MB above its base  (< {SIZE_BAR:g})")
    for what, times in (("podman run", called), ("its process's start", began)):
        spread = f"{min(times):.2f} to {max(times):.2f}, {len(times)} containers"
        bar = f"< {START_BAR}; " if times is began else ""
        print(f"/health after {what}: {statistics.median(times):.2f} s  ({bar}{spread})")
    missed = above >= SIZE_BAR or statistics.median(began) >= START_BAR
    return 1 if arguments.check and missed else 0


if __name__ == "__main__":
    sys.exit(main())
