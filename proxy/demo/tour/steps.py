"""What the tour does: the orchestrator's calls, then the user's, each with its answer checked."""

from __future__ import annotations

import asyncio
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from proxy.demo.sample import sample_settings_overrides
from proxy.demo.tour.child import ProxyChild

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from proxy.processes import Process

    Step = Callable[[], Awaitable[str]]

URL: Final = "http://proxy"  # of a Unix socket the host means nothing
SOCKET: Final = "proxy.sock"
_POLL: Final = 0.005  # seconds between two looks whether it listens
MESSAGE: Final = "How many words are these?"
REPLY: Final = "count: 5 words, 25 characters"


class TourError(Exception):
    """An answer was not what it should be."""


def expect(what: str, wanted: object, got: object) -> None:
    if wanted != got:
        raise TourError(f"{what} should be {wanted!r}, is {got!r}")


class Steps:
    """The steps, in the order of `chapters`; what one learns the next one uses."""

    def __init__(self, directory: Path, session: aiohttp.ClientSession) -> None:
        self._session = session
        self._conversations = directory / "conversations"
        self._run_dir = directory / "run"
        self._directory = directory
        self._bootstrap_key = secrets.token_urlsafe()
        self._user = {"X-Session-API-Key": secrets.token_urlsafe()}
        self.child: ProxyChild | None = None
        self._conversation = ""
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._events: list[dict[str, Any]] = []
        self._family: list[Process] = []

    def chapters(self) -> list[tuple[str, list[tuple[str, Step]]]]:
        """(heading, steps); a step is what it does and a call that returns the answer."""
        return [
            (
                "Dormant: the pod waits in the pool, no agent server runs",
                [
                    ("start the proxy, GET /health", self.boot),
                    ("GET /ready", self.ready),
                    ("GET /api/init", self.dormant),
                    ("POST /api/conversations", self.refused),
                    ("WebSocket /sockets/events/...", self.socket_refused),
                ],
            ),
            (
                "Init: a user is matched, and one request brings everything that is theirs",
                [
                    ("POST /api/init without the key", self.init_without_key),
                    ("POST /api/init with a typing error", self.init_misspelt),
                    ("POST /api/init", self.init),
                    ("POST /api/init again", self.init_again),
                ],
            ),
            (
                "Ready: the agent server is the user's, and only theirs",
                [
                    ("GET /api/conversations without key", self.without_session_key),
                    ("POST /api/conversations", self.create),
                    (f'WebSocket: "{MESSAGE}"', self.converse),
                    ("GET /api/conversations/.../stream", self.stream),
                ],
            ),
            (
                "Shutdown",
                [
                    ("SIGTERM", self.shut_down),
                    ("look for what is left", self.nothing_left),
                ],
            ),
        ]

    # Dormant

    async def boot(self) -> str:
        settings = sample_settings_overrides(str(self._run_dir))
        settings |= {
            "deferred_init": True,
            "listen": {"address": f"unix:{self._directory / SOCKET}"},
            "drain": {"grace": 5},
            "log": {"level": "info", "format": "json"},
        }
        config = self._directory / "proxy.json"
        config.write_text(json.dumps(settings))  # JSON is YAML
        log = self._directory / "proxy.log"
        self.child = await ProxyChild.start(config, self._bootstrap_key, log)
        while True:
            try:
                await self._ask("GET", "/health", 200)
            except aiohttp.ClientConnectionError:
                self.child.ensure_running()
                await asyncio.sleep(_POLL)
            else:
                return "200"

    async def ready(self) -> str:
        await self._ask("GET", "/ready", 200)
        return "200  a pool counts the dormant pod as available"

    async def dormant(self) -> str:
        answer = await self._ask("GET", "/api/init", 200)
        expect("the answer", {"state": "dormant", "error": None}, answer)
        return f"200  {json.dumps(answer)}"

    async def refused(self) -> str:
        answer = await self._ask("POST", "/api/conversations", 503, json={})
        return f"503  {answer['detail']}"

    async def socket_refused(self) -> str:
        try:
            async with self._session.ws_connect(f"{URL}/sockets/events/{'0' * 32}"):
                raise TourError("a WebSocket was opened to nobody")
        except aiohttp.WSServerHandshakeError as error:
            expect("the handshake's status", 503, error.status)
        return "503  before any handshake"

    # Init

    async def init_without_key(self) -> str:
        answer = await self._ask("POST", "/api/init", 401, json=self._claim())
        return f"401  {answer['detail']}"

    async def init_misspelt(self) -> str:
        body = {"sesion_api_keys": ["anything"]}
        answer = await self._ask("POST", "/api/init", 422, json=body, headers=self._orchestrator())
        expect("the fault's field", True, "sesion_api_keys" in answer["detail"])
        return f"422  {answer['detail']}"

    async def init(self) -> str:
        headers = self._orchestrator()
        answer = await self._ask("POST", "/api/init", 200, json=self._claim(), headers=headers)
        expect("the answer", {"state": "ready", "error": None}, answer)
        return f"200  {json.dumps(answer)}"

    async def init_again(self) -> str:
        headers = self._orchestrator()
        answer = await self._ask("POST", "/api/init", 400, json=self._claim(), headers=headers)
        return f"400  {answer['detail']}"

    # Ready

    async def without_session_key(self) -> str:
        answer = await self._ask("GET", "/api/conversations", 401)
        return f"401  {answer['detail']}"

    async def create(self) -> str:
        config = await self._ask("GET", "/api/config", 200, headers=self._user)
        expect("the delivered model", "sample/word-counter", config["llm_model"])
        answer = await self._ask("POST", "/api/conversations", 201, json={}, headers=self._user)
        self._conversation = answer["id"]
        return f"201  conversation {self._conversation}"

    async def converse(self) -> str:
        path = f"{URL}/sockets/events/{self._conversation}"
        self._socket = await self._session.ws_connect(path, headers=self._user)
        await self._socket.send_json({"role": "user", "content": MESSAGE})
        while not self._events or self._events[-1].get("value") != "finished":
            self._events.append(await self._socket.receive_json())
        reply = self._events[-2]["llm_message"]["content"][0]["text"]
        expect("the reply", REPLY, reply)
        return f'101  {len(self._events)} events; the agent: "{reply}"'

    async def stream(self) -> str:
        path = f"{URL}/api/conversations/{self._conversation}/stream"
        streamed = []
        async with self._session.get(path, headers=self._user) as answer:
            expect("the status", 200, answer.status)
            async for line in answer.content:
                if line.startswith(b"data: "):
                    streamed.append(json.loads(line[6:]))
                    if len(streamed) == len(self._events):
                        break
        expect("what the stream replays", self._events, streamed)
        return f"200  the same {len(streamed)} events, server-sent"

    # Shutdown

    async def shut_down(self) -> str:
        if self.child is None or self._socket is None:
            raise TourError("nothing runs")
        self._family = self.child.family()
        self.child.terminate()
        goodbye = await self._socket.receive()
        expect("the WebSocket's last frame", aiohttp.WSMsgType.CLOSE, goodbye.type)
        expect("its code", aiohttp.WSCloseCode.GOING_AWAY, goodbye.data)
        expect("the exit code", 0, await self.child.ended())
        return f"exit 0, WebSocket closed with {int(goodbye.data)}"

    async def nothing_left(self) -> str:
        expect("what still runs", [], [each.pid for each in self._family if each.alive])
        expect(f"the existence of {self._run_dir}", False, self._run_dir.exists())
        kept = len((self._conversations / f"{self._conversation}.jsonl").read_text().splitlines())
        expect("the number of stored events", len(self._events), kept)
        return f"{len(self._family)} processes gone; the user's {kept} events are where init said"

    # Asking

    def _orchestrator(self) -> dict[str, str]:
        return {"X-Init-API-Key": self._bootstrap_key}

    def _claim(self) -> dict[str, Any]:
        return {
            "session_api_keys": [self._user["X-Session-API-Key"]],
            "conversations_path": str(self._conversations),
            "env": {"LLM_MODEL": "sample/word-counter"},
        }

    async def _ask(self, method: str, path: str, status: int, **kwargs: Any) -> Any:
        """The JSON body of the answer, which must have `status`."""
        async with self._session.request(method, URL + path, **kwargs) as answer:
            body = await answer.text()
            if answer.status != status:
                raise TourError(f"{status} was expected, came {answer.status}: {body}")
            return json.loads(body)
