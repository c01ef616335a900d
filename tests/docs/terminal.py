"""A reader of a page: two terminals, one for servers, and the page's blocks typed into them."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from types import TracebackType

    from tests.docs.pages import Block

LISTEN, ADMIN, UPSTREAM = "8000", "9901", "18000"
_MARK: Final = "-- the block has ended --"
# What pages name of the repository, by the name under which it is there.
_NAMED: Final = ("deploy", "config.example.yaml")


class Ports:
    """The pages' ports, as others that are ours alone.

    They are bound here, so that the kernel gives them to nobody, and not listened on, so that
    whoever says SO_REUSEADDR may listen there: every server that the pages start does.
    """

    def __init__(self) -> None:
        self._held = {name: _bound() for name in (LISTEN, ADMIN, UPSTREAM)}
        self._numbers = {n: str(sock.getsockname()[1]) for n, sock in self._held.items()}

    def __getitem__(self, name: str) -> str:
        return self._numbers[name]

    def typed(self, text: str) -> str:
        return re.sub(r"\b(8000|9901|18000)\b", lambda match: self[match[0]], text)

    def shown(self, text: str) -> str:
        for name, number in self._numbers.items():
            text = re.sub(rf"\b{number}\b", name, text)
        return text

    def close(self) -> None:
        for sock in self._held.values():
            sock.close()


def _bound() -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return sock


class Reader:
    """Types blocks; `env` is what both terminals have besides a developer's environment.

    A block that fails, or prints something else than the page says, is an `AssertionError`.
    """

    def __init__(self, directory: Path, env: dict[str, str], replaced: dict[str, str]) -> None:
        self._directory = directory
        self._replaced = replaced
        self._ports = Ports()
        # Socket files lie in it, whose paths may not be long.
        self._temporary = tempfile.TemporaryDirectory(prefix="docs-")
        self._env = clean_environment(
            **{
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                "HOME": str(directory),
                "TMPDIR": self._temporary.name,
                "DEFERRED_INIT_PROXY_URL": f"http://127.0.0.1:{self._ports[LISTEN]}",
                "PROXY_LISTEN__ADDRESS": f"127.0.0.1:{self._ports[LISTEN]}",
                "PROXY_LISTEN__ADMIN": f"127.0.0.1:{self._ports[ADMIN]}",
            }
            | {name: self._ports.typed(value) for name, value in env.items()}
        )
        self._shell: asyncio.subprocess.Process | None = None
        self._server: asyncio.subprocess.Process | None = None
        self._log = directory / "server.log"
        self._count = 0

    async def __aenter__(self) -> Self:
        for name in _NAMED:
            (self._directory / name).symlink_to(ROOT / name)
        self._shell = await asyncio.create_subprocess_exec(
            "bash", "-e", cwd=self._directory, env=self._env, limit=2**22,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shell is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._shell.pid, signal.SIGKILL)
            await self._shell.wait()
        code = await self._end_server()
        self._ports.close()
        self._temporary.cleanup()
        if error is None:
            assert code in {None, 0}, self._log.read_text()

    async def type(self, block: Block) -> None:
        text = self._ports.typed(block.text)
        for written, meant in self._replaced.items():
            text = text.replace(written, meant)
        self._count += 1
        file = (
            self._directory / f"block-{self._count}.{'py' if block.language == 'python' else 'sh'}"
        )
        file.write_text(text)
        if "server" in block.words:
            await self._serve(file, block)
            return
        said = await self._run(file, block)
        if block.printed is not None:
            shown = self._ports.shown(said)
            assert _pattern(block.printed).fullmatch(shown), f"{block} prints:\n{shown}"

    async def _run(self, file: Path, block: Block) -> str:
        shell = self._shell
        assert shell is not None
        assert shell.stdin is not None
        assert shell.stdout is not None
        how = f"python {file}" if file.suffix == ".py" else f". {file}"
        shell.stdin.write(f"{how} </dev/null\nprintf '\\n%s\\n' '{_MARK}'\n".encode())
        lines: list[str] = []
        async for raw in shell.stdout:
            line = raw.decode().replace("\r\n", "\n")
            if line.rstrip("\n") == _MARK:
                return "".join(lines)
            lines.append(line)
        log = self._log.read_text() if self._log.exists() else ""
        raise AssertionError(f"{block} failed:\n{''.join(lines)}\nits server:\n{log}")

    async def _serve(self, file: Path, block: Block) -> None:
        assert await self._end_server() in {None, 0}, self._log.read_text()
        with self._log.open("wb") as log:
            self._server = await asyncio.create_subprocess_exec(
                "bash", "-e", str(file), cwd=self._directory, env=self._env,
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        while not _listens(int(self._ports[LISTEN])):
            assert self._server.returncode is None, f"{block} ended:\n{self._log.read_text()}"
            await asyncio.sleep(0.02)

    async def _end_server(self) -> int | None:
        """Press Ctrl-C; the exit code."""
        server, self._server = self._server, None
        if server is None:
            return None
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGINT)
        try:
            async with asyncio.timeout(30):
                return await server.wait()
        except TimeoutError:
            os.killpg(server.pid, signal.SIGKILL)
            return await server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _pattern(printed: str) -> re.Pattern[str]:
    """`…` is anything on its line; on a line of its own, any number of lines."""
    lines = []
    for line in printed.rstrip("\n").split("\n"):
        if line.strip() == "…":
            lines.append(r"(?:.*\n)*?")
        else:
            lines.append(".*".join(map(re.escape, line.rstrip().split("…"))) + r"[ \t]*\n+")
    return re.compile(r"\n*" + "".join(lines))
