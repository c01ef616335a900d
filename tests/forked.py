"""Asks this process's zygote (see `zygote`) for others, which look like `asyncio`'s processes."""

from __future__ import annotations

import asyncio
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ROOT: Final = Path(__file__).resolve().parent.parent
# What an interpreter or a library reads before the proxy's own code begins: only exec heeds it.
_READ_EARLY: Final = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "AIOHTTP_", "PYDANTIC_", "UV_")


def can_fork(env: Mapping[str, str]) -> bool:
    """Whether a fork would heed all of `env`, which is beyond this process's own environment."""
    return not any(name.startswith(_READ_EARLY) for name in env)


class Forked:
    """A program that was forked; its standard error is a pipe."""

    def __init__(
        self,
        pid: int,
        stderr: asyncio.StreamReader,
        transport: asyncio.ReadTransport,
        report: int,
    ) -> None:
        self.pid = pid
        self.stderr = stderr
        self.transport = transport  # of the standard error
        self.returncode: int | None = None
        self._ended = asyncio.Event()
        self._report = report
        asyncio.get_running_loop().add_reader(report, self._reported)

    def _reported(self) -> None:
        self.returncode = int(os.read(self._report, 16))
        asyncio.get_running_loop().remove_reader(self._report)
        os.close(self._report)
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is not None:
            raise ProcessLookupError
        os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    """Of a process that runs tests: begun when it is first needed, ends with that process."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._asking: socket.socket | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    async def start(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        *,
        program: str = "proxy.cli",
        limit: int = 2**16,
    ) -> Forked:
        """`limit` is that of a line of standard error, in bytes."""
        request = {
            "program": program,
            "arguments": arguments,
            "env": env,
            "directory": str(_ROOT),
        }
        ours, theirs = os.pipe()
        report, told = os.pipe()
        try:
            pid = self._fork(request, [0, 1, theirs, told])
        finally:
            os.close(theirs)
            os.close(told)
        stderr = asyncio.StreamReader(limit=limit)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(stderr), os.fdopen(ours, "rb", buffering=0)
        )
        return Forked(pid, stderr, transport, report)

    def _fork(self, request: Mapping[str, object], descriptors: Sequence[int]) -> int:
        asking = self._asking or self._begin()
        socket.send_fds(asking, [json.dumps(request).encode()], descriptors)
        return int(asking.recv(64))

    def _begin(self) -> socket.socket:
        self._asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with asked:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.zygote", str(asked.fileno())],
                pass_fds=[asked.fileno()], cwd=_ROOT, env=self._environment,
            )  # fmt: skip
        atexit.register(self._end, self._asking, self._process)
        return self._asking

    @staticmethod
    def _end(asking: socket.socket, process: subprocess.Popen[bytes]) -> None:
        asking.close()
        process.wait()
