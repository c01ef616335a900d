"""A pod as a deployment would make it: the proxy, and a real agent server that it starts."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.harness import KEY, ROOT, ProxyProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Container

    from tests.real.provider import Provider

SESSION_KEY = "session-key-of-the-user"
MODEL_KEY = "sk-model-provider-key"

# How each release tells that it is ready (1.0.0 has no /ready).
READY_PATH = {"1.0.0": "/alive"}

PATIENCE = 150  # seconds for a server to come up on a busy machine

OVER = {"finished", "error", "stuck"}


def interpreter(version: str) -> str:
    """The Python of a real upstream's environment; fails when it was not made."""
    directory = ROOT / ".real" / version
    if not (directory / "complete").is_file():
        raise AssertionError(f"{directory} is missing or incomplete: run .ci/upstreams first")
    return str(directory / "bin" / "python")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def settings(
    version: str, root: Path, env: dict[str, str], dormancy: str = "cold"
) -> dict[str, Any]:
    """A deployment's settings: offline, without desktop and browser, at home in `root`."""
    port = free_port()
    work = root / "work"
    work.mkdir(exist_ok=True)
    return {
        "listen": {"address": "127.0.0.1:0"},
        "init": {"timeout": PATIENCE},
        "upstream": {
            "url": f"http://127.0.0.1:{port}",
            "command": [
                *(interpreter(version), "-m", "openhands.agent_server"),
                *("--host", "127.0.0.1", "--port", str(port)),
            ],
            "cwd": str(work),
            "env": {
                "HOME": str(root / "home"),
                "OH_PERSISTENCE_DIR": str(root / "persistence"),
                "OH_ENABLE_VSCODE": "false",
                "OH_PRELOAD_TOOLS": "false",
                "OPENHANDS_SUPPRESS_BANNER": "1",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            }
            | env,
            "ready": {"path": READY_PATH.get(version, "/ready")},
            "dormancy": dormancy,
            "preload": {"timeout": PATIENCE},
            "run_dir": str(root / "run"),
        },
    }


class Pod:
    """The proxy in front of a real server, and what its owner does with it."""

    def __init__(self, version: str, root: Path, proxy: ProxyProcess) -> None:
        self.version = version
        self.root = root
        self.proxy = proxy
        # Seen before the init, which happens only once.
        self.dormant: dict[str, Any] = {}

    async def status(self, path: str, key: str | None = SESSION_KEY, **kwargs: Any) -> int:
        headers = {"X-Session-API-Key": key} if key is not None else {}
        url = self.proxy.url + path
        async with self.proxy.session.get(url, headers=headers, **kwargs) as answer:
            await answer.read()
            return answer.status

    async def api(self, method: str, path: str, **kwargs: Any) -> Any:
        """The JSON answer to an authenticated request that must succeed."""
        headers = {"X-Session-API-Key": SESSION_KEY}
        status, body = await self.proxy.request(method, path, headers=headers, **kwargs)
        assert status < 300, (status, body)
        return body

    async def claimable(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while (await self.proxy.get("/ready"))[0] != 200:
                await asyncio.sleep(0.05)

    async def ready(self) -> None:
        async with asyncio.timeout(PATIENCE):
            while await self.proxy.state() != "ready":
                await asyncio.sleep(0.05)

    async def start(self) -> dict[str, Any]:
        """How the running server came about."""
        started: dict[str, Any] = (await self.proxy.get("/api/init?details=true"))[1]["start"]
        return started

    async def look_while_dormant(self) -> None:
        for path in ("/health", "/ready", "/api/init", "/api/conversations/count"):
            self.dormant[path] = await self.proxy.get(path)
        self.dormant["wrong key"] = await self.proxy.init({}, key="wrong")
        self.dormant["no key"] = await self.proxy.init({}, key=None)

    def assert_it_was_dormant(self) -> None:
        """What was seen before the init is what a dormant pod must answer."""
        assert self.dormant["/health"][0] == 200
        assert self.dormant["/ready"][0] == 200
        assert self.dormant["/api/init"] == (200, {"state": "dormant", "error": None})
        assert self.dormant["/api/conversations/count"][0] == 503
        assert self.dormant["wrong key"][0] == 401
        assert self.dormant["no key"][0] == 401

    async def environment(self) -> dict[str, str]:
        """What the upstream was started with."""
        _, details = await self.proxy.get("/api/init?details=true")
        entries = Path(f"/proc/{details['pid']}/environ").read_bytes().decode().split("\0")
        return dict(entry.split("=", 1) for entry in entries if entry)

    async def run(self, command: str) -> str:
        """What a command prints that the server runs for its user."""
        ran = await self.api(
            "POST", "/api/bash/execute_bash_command", json={"command": command, "timeout": 30}
        )
        return str(ran["stdout"] or "")

    async def start_conversation(
        self, provider: Provider, text: str = "What is the answer?", **more: Any
    ) -> str:
        started = await self.api(
            "POST", "/api/conversations", json=self.conversation(provider, text, **more)
        )
        return str(started["id"])

    def conversation(self, provider: Provider, text: str, **more: Any) -> dict[str, Any]:
        """The body that starts a conversation, in the form that every release takes."""
        return {
            "agent": {
                "kind": "Agent",
                "tools": [],
                "llm": {
                    "model": "openai/stand-in",
                    "base_url": provider.base_url,
                    "api_key": MODEL_KEY,
                    "usage_id": "agent",
                    "num_retries": 0,
                },
            },
            "workspace": {"kind": "LocalWorkspace", "working_dir": str(self.root / "project")},
            "initial_message": {
                "role": "user",
                "content": [{"type": "text", "text": text}],
                "run": True,
            },
        } | more

    async def over(self, conversation: str) -> str:
        """How a conversation ended."""
        return await self.execution_status(conversation, OVER)

    async def execution_status(self, conversation: str, awaited: Container[str]) -> str:
        """The first of `awaited` that a conversation has."""
        async with asyncio.timeout(30):
            while True:
                info = await self.api("GET", f"/api/conversations/{conversation}")
                if info["execution_status"] in awaited:
                    return str(info["execution_status"])
                await asyncio.sleep(0.05)


@asynccontextmanager
async def dormant_pod(
    version: str,
    root: Path,
    *,
    inherited: dict[str, str] | None = None,
    env: dict[str, str] | None = None,
    dormancy: str = "cold",
    on_exit: str = "restart",
) -> AsyncIterator[Pod]:
    """A pod that waits for its init; `inherited` is in the container, `env` in the settings."""
    for name in ("home", "project"):
        (root / name).mkdir()
    container = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": KEY} | (inherited or {})
    # The upstreams have bytecode of their own beside their modules.
    container = container | {"PYTHONPYCACHEPREFIX": ""}
    chosen = settings(version, root, env or {}, dormancy)
    chosen["upstream"]["on_exit"] = on_exit
    proxy = ProxyProcess(chosen, root, container, executed=True)
    try:
        pod = Pod(version, root, await proxy.start())
        await pod.claimable()
        await pod.look_while_dormant()
        yield pod
    finally:
        await proxy.close()


def decrypted(version: str, token: str, key: str) -> str:
    """Read what a server has encrypted: Fernet under the SHA-256 of its secret key."""
    return _fernet(version, "decrypt", token, key)


def encrypted(version: str, text: str, key: str) -> str:
    return _fernet(version, "encrypt", text, key)


def _fernet(version: str, verb: str, text: str, key: str) -> str:
    script = (
        "import base64, hashlib, json, sys\n"
        "from cryptography.fernet import Fernet\n"
        "verb, text, key = json.load(sys.stdin)\n"
        "fernet = Fernet(base64.b64encode(hashlib.sha256(key.encode()).digest()))\n"
        "print(getattr(fernet, verb)(text.encode()).decode(), end='')\n"
    )
    done = subprocess.run(
        [interpreter(version), "-I", "-c", script],
        input=json.dumps([verb, text, key]), text=True, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout
