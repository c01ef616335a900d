"""The servers of docs/how-to/servers, each the real thing, claimed by the init that is shown."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from tests.harness import KEY, ROOT, ProxyProcess
from tests.real.pods import PATIENCE, free_port, interpreter
from tests.running import READY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.timeout(2 * PATIENCE)]

GALLERY: Final = ROOT / "docs" / "how-to" / "servers"
TOKEN: Final = {"Authorization": "Bearer the-users-token"}
MODEL_KEY: Final = "sk-of-the-user"


async def gunicorn(proxy: ProxyProcess) -> None:
    assert (await proxy.get("/who"))[0] == 401
    assert await proxy.get("/who", headers=TOKEN) == (200, {"key": MODEL_KEY, "data": "/mnt/user"})


async def fastmcp(proxy: ProxyProcess) -> None:
    url, accepted = proxy.url + "/mcp", {"Accept": "application/json, text/event-stream"}
    hello = {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    }

    async def call(method: str, params: dict[str, Any], **more: Any) -> tuple[int, str, Any]:
        message = {"jsonrpc": "2.0", "method": method, "params": params} | more
        async with proxy.session.post(url, json=message, headers=headers) as answer:
            return answer.status, await answer.text(), answer.headers

    headers = accepted
    assert (await call("initialize", hello, id=1))[0] == 401
    headers = accepted | TOKEN
    status, _, told = await call("initialize", hello, id=1)
    assert status == 200
    headers |= {"Mcp-Session-Id": told["Mcp-Session-Id"]}
    assert (await call("notifications/initialized", {}))[0] == 202
    _, said, _ = await call("tools/call", {"name": "whose", "arguments": {}}, id=2)
    assert f"key={MODEL_KEY} data=/mnt/user" in said


async def langgraph(proxy: ProxyProcess) -> None:
    body = {"assistant_id": "tiny", "input": {"text": "hi"}}
    assert (await proxy.request("POST", "/runs/wait", json=body))[0] == 401
    key = {"X-API-Key": "the-users-token"}
    status, said = await proxy.request("POST", "/runs/wait", json=body, headers=key)
    assert (status, said["out"]) == (200, f"hi style=pirate key={MODEL_KEY}")


async def adk(proxy: ProxyProcess) -> None:
    assert await proxy.get("/health", headers=TOKEN) == (200, {"status": "ok"})
    assert (await proxy.get("/list-apps"))[0] == 401
    place = "/apps/tiny/users/u/sessions/s"
    assert (await proxy.request("POST", place, json={}, headers=TOKEN))[0] == 200
    message = {"role": "user", "parts": [{"text": "hi"}]}
    body = {"app_name": "tiny", "user_id": "u", "session_id": "s", "new_message": message}
    status, said = await proxy.request("POST", "/run", json=body, headers=TOKEN)
    assert status == 200
    assert "style=pirate key=AIza-of-the-user" in json.dumps(said)


@pytest.mark.parametrize("use", [gunicorn, fastmcp, langgraph, adk], ids=lambda use: use.__name__)
async def test_a_server_of_the_gallery_waits_as_it_says_and_becomes_its_users(
    use: Callable[[ProxyProcess], Awaitable[None]], tmp_path: Path
) -> None:
    name = use.__name__
    here, port = tmp_path / "here", str(free_port())
    shutil.copytree(GALLERY / name, here)
    settings = yaml.safe_load((here / "proxy.yaml").read_text().replace("18000", port))
    prefix = settings.get("control", {}).get("prefix", "")
    settings |= {"listen": {"address": "127.0.0.1:0", "admin": None}, "init": {"timeout": PATIENCE}}
    upstream = settings["upstream"]
    program, *arguments = upstream["command"]
    python = interpreter(f"servers/{name}")
    upstream["command"] = [python.removesuffix("python") + program, *arguments]
    upstream["preload"] = {"timeout": PATIENCE}
    upstream["cwd"] = str(here)
    upstream.setdefault("env", {})["HOME"] = str(tmp_path)
    proxy = ProxyProcess(settings, tmp_path, {"OH_SECRET_KEY": KEY})
    await proxy.start()
    try:
        async with asyncio.timeout(PATIENCE):
            while (await proxy.get(f"{prefix}/ready"))[0] != 200:
                await asyncio.sleep(0.1)
        body = json.loads((here / "init.json").read_text())
        pool = {"X-Init-API-Key": KEY}
        answer = await proxy.request("POST", f"{prefix}/api/init", json=body, headers=pool)
        assert answer == (200, READY)
        await use(proxy)
        _, details = await proxy.get(f"{prefix}/api/init?details=true")
        start = details["start"]
        assert start == {"kind": "warm", "why": None}
    finally:
        await proxy.close()
