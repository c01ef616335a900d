"""A headless Chromium, driven over its DevTools protocol; and axe to judge accessibility.

Found as `chromium` on PATH (Debian's package) or in CHROMIUM; axe (npm's axe-core) in AXE, the path
of its axe.min.js.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import shutil
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1000,700",
)


class Tab:
    """One tab. `messages` are what the console and the security policy complained of."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.messages: list[str] = []
        self.loads = 0
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            data = json.loads(message.data)
            if "id" in data:
                self._answers.pop(data["id"]).set_result(data)
            elif data["method"] == "Log.entryAdded":
                self.messages.append(data["params"]["entry"]["text"])
            elif data["method"] == "Page.loadEventFired":
                self.loads += 1

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        async with asyncio.timeout(30):
            answer = await self._answers[number]
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def go(self, url: str) -> None:
        before = self.loads
        await self.call("Page.navigate", url=url)
        async with asyncio.timeout(30):
            while self.loads == before:
                await asyncio.sleep(0.01)

    async def evaluate(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        answer = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, script: str, wanted: object) -> None:
        """Wait until an expression has a value; a page that is being replaced has none."""
        seen: object = None
        try:
            async with asyncio.timeout(20):
                while seen != wanted:
                    with suppress(AssertionError):
                        seen = await self.evaluate(script)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"{script} is {seen!r}, not {wanted!r}") from None

    async def heading(self) -> str:
        """What a person reads first."""
        script = "[...document.querySelectorAll('h1')].filter(h => h.checkVisibility())"
        return str(await self.evaluate(f"{script}.map(h => h.textContent).join('|')"))

    async def look(self, *, dark: bool = False, reduced: bool = False) -> None:
        features = [
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce" if reduced else "no-preference"},
        ]
        await self.call("Emulation.setEmulatedMedia", features=features)

    async def screenshot(self, file: Path) -> None:
        answer = await self.call("Page.captureScreenshot")
        file.write_bytes(base64.b64decode(answer["data"]))

    async def violations(self) -> list[str]:
        """What axe finds wrong."""
        await self.evaluate(Path(os.environ["AXE"]).read_text() + ";0")
        found = await self.evaluate(
            "axe.run().then(r => r.violations.map(v => v.id + ': ' + v.nodes.map(n => n.html)))"
        )
        return list(found)


@asynccontextmanager
async def tab(directory: Path) -> AsyncIterator[Tab]:
    """A new browser with one empty tab; ended afterwards."""
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    assert program is not None, "needs Debian's chromium"
    profile = directory / "chromium"
    process = await asyncio.create_subprocess_exec(
        program, *_FLAGS, f"--user-data-dir={profile}", "about:blank",
        stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with aiohttp.ClientSession() as session:
            url = await _tab_url(session, profile / "DevToolsActivePort")
            async with session.ws_connect(url, max_msg_size=0) as socket:
                opened = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await opened.call(f"{domain}.enable")
                yield opened
    finally:
        process.terminate()
        await process.wait()


async def _tab_url(session: aiohttp.ClientSession, ports: Path) -> str:
    async with asyncio.timeout(40):
        while not (ports.exists() and ports.read_text().count("\n")):
            await asyncio.sleep(0.02)
        port = int(ports.read_text().split()[0])
        while True:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                for target in await answer.json():
                    if target["type"] == "page":
                        return str(target["webSocketDebuggerUrl"])
            await asyncio.sleep(0.02)
