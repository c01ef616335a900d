"""A launcher as a real process, spoken to over its socket, for tests."""

from __future__ import annotations

import base64
import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LAUNCHER = Path(__file__).resolve().parents[2] / "proxy" / "launcher"
PATIENCE = 60.0  # seconds for anything that is awaited; reached only by a failing test


def until(done: Callable[[], object]) -> None:
    """Wait until `done()` is true."""
    deadline = time.monotonic() + PATIENCE
    while not done():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether `pid` runs; a zombie does not."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return status.rpartition(")")[2].split()[0] not in "ZX"


def encoded(
    path: Path, content: bytes, mode: int = 0o600, base: Path | None = None
) -> dict[str, Any]:
    """A file of a start message."""
    return {
        "path": str(path),
        "content": base64.b64encode(content).decode(),
        "mode": mode,
        "base_file": str(base) if base is not None else None,
    }


@functools.cache
def compiled(python: str) -> None:
    """Keep the launcher's bytecode: its fork servers, which are told to write none, look for it."""
    subprocess.run([python, "-I", "-m", "compileall", "-q", str(LAUNCHER)], check=True)


class Launcher:
    """`call` an operation, await an `event`; every event is kept in `events`."""

    def __init__(
        self,
        python: str = sys.executable,
        *,
        path: Path = LAUNCHER,
        env: dict[str, str] | None = None,
        before: tuple[str, ...] = (),
        inherit: tuple[int, ...] = (),
        **popen: Any,
    ) -> None:
        compiled(python)
        ours, theirs = socket.socketpair()
        ours.settimeout(PATIENCE)
        self.socket = ours
        self.events: list[dict[str, Any]] = []
        self._lines = ours.makefile("rb")
        self._number = 0
        with theirs:
            self.process = subprocess.Popen(
                [*before, python, "-I", "-S", str(path), "--fd", str(theirs.fileno())],
                pass_fds=(theirs.fileno(), *inherit),
                env=env,
                start_new_session=True,
                stderr=subprocess.PIPE,
                **popen,
            )

    def __enter__(self) -> Self:
        self.hello = self.receive()
        return self

    def __exit__(self, *_: object) -> None:
        self.hang_up()
        try:
            self.process.wait(PATIENCE)
        finally:
            if self.process.returncode is None:
                self.process.kill()
                self.process.wait()
            assert self.process.stderr is not None
            self.stderr = self.process.stderr.read().decode()
            self.process.stderr.close()

    @property
    def pid(self) -> int:
        return self.process.pid

    def hang_up(self) -> None:
        self._lines.close()
        self.socket.close()

    def receive(self) -> dict[str, Any]:
        line = self._lines.readline()
        assert line, "the launcher has hung up"
        message: dict[str, Any] = json.loads(line)
        if "event" in message:
            self.events.append(message)
        return message

    def send(self, **message: Any) -> None:
        self.socket.sendall(json.dumps(message).encode() + b"\n")

    def answer(self, number: int | None) -> dict[str, Any]:
        while True:
            message = self.receive()
            if "ok" in message and message["id"] == number:
                return message

    def call(self, op: str, **fields: Any) -> dict[str, Any]:
        self._number += 1
        self.send(id=self._number, op=op, **fields)
        return self.answer(self._number)

    def start(self, *argv: str, **fields: Any) -> dict[str, Any]:
        """Start `argv` and expect it to have worked."""
        answer = self.try_start(*argv, **fields)
        assert answer["ok"], answer
        return answer

    def try_start(self, *argv: str, **fields: Any) -> dict[str, Any]:
        return self.call("start", **({"argv": list(argv), "base_unset": []} | fields))

    def stop(self, grace: float = PATIENCE) -> None:
        answer = self.call("stop", grace=grace)
        assert answer["ok"], answer

    def event(self, kind: str, **fields: Any) -> dict[str, Any]:
        """The first event of this kind with these fields, of the past or awaited."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if event["event"] == kind and fields.items() <= event.items():
                    return event
            seen = len(self.events)
            while len(self.events) == seen:
                self.receive()

    def line(self, text: str) -> None:
        """Await a line of output."""
        self.event("output", line=text)

    def number(self, name: str) -> int:
        """The number that the upstream prints as `name=N`."""
        while True:
            for line in self.output():
                if line.startswith(name + "="):
                    return int(line.partition("=")[2])
            self.receive()

    def output(self, stream: str = "stdout") -> list[str]:
        return [
            event["line"]
            for event in self.events
            if event["event"] == "output" and event["stream"] == stream
        ]

    def resident(self) -> int:
        """Resident memory, in bytes."""
        pages = Path(f"/proc/{self.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def children(self) -> list[int]:
        listing = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        return [int(pid) for pid in listing.split()]


@contextlib.contextmanager
def killed_afterwards(*pids: int) -> Iterator[None]:
    """End what a failing test would leave behind."""
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
