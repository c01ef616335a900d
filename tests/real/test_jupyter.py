"""`deploy/jupyter.yaml`, the example for a server that is not OpenHands, on a real Jupyter."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.harness import KEY, ROOT, ProxyProcess
from tests.real.pods import SESSION_KEY, free_port, interpreter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

TOKEN = {"Authorization": f"token {SESSION_KEY}"}


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    settings: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "jupyter.yaml").read_text())
    upstream = settings["upstream"]
    port, run_dir = str(free_port()), str(tmp_path / "run")
    settings["listen"] = {"address": "127.0.0.1:0"}
    upstream["url"] = upstream["url"].replace("18000", port)
    upstream["run_dir"] = run_dir
    _, _, *arguments = upstream["command"]
    upstream["command"] = [
        *(interpreter("jupyter"), "-m", "jupyter_server", "--allow-root"),
        *(a.replace("18000", port).replace("/run/jupyter", run_dir) for a in arguments),
    ]
    upstream["env"] = {"HOME": str(tmp_path / "home")}
    baked = {"OH_SECRET_KEY": KEY, "JUPYTER_TOKEN": "baked", "PYTHONPYCACHEPREFIX": ""}
    proxy = ProxyProcess(settings, tmp_path, baked, executed=True)
    await proxy.start()
    yield proxy
    await proxy.close()


async def test_the_example_gives_a_jupyter_server_the_life_cycle(
    proxy: ProxyProcess, tmp_path: Path
) -> None:
    (tmp_path / "mount").mkdir()
    assert (await proxy.get("/api/contents"))[0] == 503
    body = {"session_api_keys": [SESSION_KEY], "conversations_path": str(tmp_path / "mount")}
    assert (await proxy.init(body | {"max_concurrent_runs": 2}))[0] == 422
    assert await proxy.init(body) == (200, {"state": "ready", "error": None})

    assert (await proxy.get("/api/contents"))[0] == 403
    assert (await proxy.get("/api/contents", headers={"Authorization": "token baked"}))[0] == 403
    assert (await proxy.get("/api/contents", headers=TOKEN))[0] == 200
    note = {"type": "file", "format": "text", "content": "of the user"}
    status, _ = await proxy.request("PUT", "/api/contents/note.txt", json=note, headers=TOKEN)
    assert status == 201
    assert (tmp_path / "mount" / "note.txt").read_text() == "of the user"


async def test_a_jupyter_terminal_talks_over_a_websocket(proxy: ProxyProcess) -> None:
    assert (await proxy.init({"session_api_keys": [SESSION_KEY]}))[0] == 200
    _, terminal = await proxy.request("POST", "/api/terminals", headers=TOKEN)
    url = f"{proxy.url}/terminals/websocket/{terminal['name']}"
    printed = ""
    async with asyncio.timeout(30), proxy.session.ws_connect(url, headers=TOKEN) as socket:
        await socket.send_json(["stdin", "echo the-sum-is-$((40 + 2))\r"])
        while "the-sum-is-42" not in printed:
            kind, *words = await socket.receive_json()
            printed += words[0] if kind == "stdout" else ""
