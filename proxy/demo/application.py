"""The sample agent server as an aiohttp application: routes, who may ask, streams and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import time
import uuid
from typing import TYPE_CHECKING, Any, Final

from aiohttp import WSCloseCode, WSMsgType, web

from proxy import __version__
from proxy.demo.conversations import Conversation, Conversations, RefusedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from proxy.demo.config import Config

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

logger = logging.getLogger(__name__)

MAX_BODY: Final = 1024 * 1024  # bytes, of a request body or a WebSocket message
KEEP_ALIVE: Final = 15.0  # seconds between signs of life on a quiet stream
CLOSE_TIMEOUT: Final = 2.0  # seconds a client has to answer a WebSocket close


class AgentServer:
    def __init__(self, config: Config) -> None:
        self._config = config
        self._keys = tuple(key.encode() for key in config.session_api_keys)
        self._conversations = Conversations(config.conversations_path, config.max_concurrent_runs)
        self._sockets: set[web.WebSocketResponse] = set()
        self._started = time.monotonic()

    def application(self) -> web.Application:
        application = web.Application(
            middlewares=[self._answer_faults, self._authenticate], client_max_size=MAX_BODY
        )
        one = "/api/conversations/{id}"
        routes: list[tuple[str, str, Handler]] = [
            ("GET", "/alive", self._alive),
            ("GET", "/health", self._alive),
            ("GET", "/ready", self._ready),
            ("GET", "/server_info", self._server_info),
            ("GET", "/api/config", self._show_config),
            ("GET", "/api/conversations", self._list),
            ("POST", "/api/conversations", self._create),
            ("GET", one, self._show),
            ("POST", f"{one}/events", self._say),
            ("GET", f"{one}/events/search", self._search),
            ("GET", f"{one}/stream", self._stream),
            ("GET", "/sockets/events/{id}", self._socket),
        ]
        for method, path, handler in routes:
            application.router.add_route(method, path, handler)
        return application

    def open(self) -> None:
        """Load the conversations. Raises `OSError`."""
        self._conversations.open()

    async def close(self) -> None:
        """End every stream, then say goodbye on every WebSocket."""
        await self._conversations.close()
        goodbye = [
            socket.close(code=WSCloseCode.GOING_AWAY, message=b"server shutdown")
            for socket in self._sockets
        ]
        await asyncio.gather(*goodbye, return_exceptions=True)

    # -- who may ask, and how faults are answered

    _OPEN: Final = frozenset({"/alive", "/health", "/ready", "/server_info"})

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every path that is not open needs a key, also one that does not exist."""
        if self._keys and request.path not in self._OPEN and not self._has_key(request):
            raise RefusedError(401, "missing or wrong X-Session-API-Key")
        return await handler(request)

    def _has_key(self, request: web.Request) -> bool:
        given = request.headers.get("X-Session-API-Key")
        if given is None and request.path.startswith("/sockets/"):
            given = request.query.get("session_api_key")  # a browser cannot send the header
        presented = (given or "").encode(errors="surrogateescape")
        # A list, not a generator: the time must not tell which key was the right one.
        return any([hmac.compare_digest(key, presented) for key in self._keys])  # noqa: C419  see above

    @web.middleware
    async def _answer_faults(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except RefusedError as error:
            return web.json_response({"detail": str(error)}, status=error.status)
        except web.HTTPException as error:
            headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else None
            detail = {"detail": error.reason}
            return web.json_response(detail, status=error.status, headers=headers)
        except ConnectionError:
            raise  # the client has gone; there is nobody to answer
        except OSError as error:
            logger.warning("%s %s: cannot store: %s", request.method, request.path, error)
            detail = {"detail": f"cannot store: {error.strerror}"}
            return web.json_response(detail, status=507)

    # -- answers

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _ready(self, _request: web.Request) -> web.Response:
        """Ready from the first moment: the conversations are loaded before the server listens."""
        return web.json_response({"status": "ready"})

    async def _server_info(self, _request: web.Request) -> web.Response:
        uptime = round(time.monotonic() - self._started, 3)
        info = {"title": "Sample agent server", "version": __version__, "uptime": uptime}
        return web.json_response(info)

    async def _show_config(self, _request: web.Request) -> web.Response:
        return web.json_response(self._config.public())

    async def _list(self, _request: web.Request) -> web.Response:
        items = [conversation.info() for conversation in self._conversations.all()]
        return web.json_response({"items": items})

    async def _create(self, request: web.Request) -> web.Response:
        message = _parse(await request.read()).get("initial_message")
        text = None if message is None else _text(message, "initial_message")
        conversation = self._conversations.create(text)
        return web.json_response(conversation.info(), status=201)

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._find(request).info())

    async def _say(self, request: web.Request) -> web.Response:
        conversation = self._find(request)
        self._conversations.say(conversation, _text(_parse(await request.read())))
        return web.json_response({"success": True})

    async def _search(self, request: web.Request) -> web.Response:
        kind = request.query.get("kind")
        events = [e for e in self._find(request).events if kind is None or e["kind"] == kind]
        return web.json_response({"items": events})

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events; the id is the event's index, so that a client can resume."""
        conversation = self._find(request)
        last = request.headers.get("Last-Event-ID", "")
        index = int(last) + 1 if last.isdecimal() and len(last) < 10 else 0
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}
        )
        await response.prepare(request)
        while (news := await conversation.news(index, KEEP_ALIVE)) is not None:
            lines = [
                f"id: {number}\nevent: {event['kind']}\ndata: {json.dumps(event)}\n\n"
                for number, event in enumerate(news, index)
            ]
            await response.write("".join(lines or [": keep-alive\n\n"]).encode())
            index += len(news)
        await response.write_eof()
        return response

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        """Every event of a conversation; each text frame from the client is a user message."""
        conversation = self._find(request)
        socket = web.WebSocketResponse(
            heartbeat=KEEP_ALIVE, timeout=CLOSE_TIMEOUT, max_msg_size=MAX_BODY
        )
        await socket.prepare(request)
        self._sockets.add(socket)
        sender = asyncio.create_task(self._send_events(socket, conversation))
        try:
            async for frame in socket:
                if frame.type is WSMsgType.TEXT:
                    await self._hear(socket, conversation, frame.data)
        finally:
            self._sockets.discard(socket)
            sender.cancel()
            # A client that went away while being written to is no fault of anybody's.
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender
        return socket

    async def _send_events(self, socket: web.WebSocketResponse, conversation: Conversation) -> None:
        index = 0
        while (news := await conversation.news(index, KEEP_ALIVE)) is not None:
            for event in news:
                await socket.send_json(event)
            index += len(news)

    async def _hear(
        self, socket: web.WebSocketResponse, conversation: Conversation, frame: str
    ) -> None:
        """A message that cannot be taken is answered to its sender alone, and not kept."""
        try:
            self._conversations.say(conversation, _text(_parse(frame)))
        except RefusedError as error:
            code, detail = error.status, str(error)
        except OSError as error:
            code, detail = 507, f"cannot store: {error.strerror}"
        else:
            return
        fault = {"kind": "ServerErrorEvent", "source": "environment"}
        await socket.send_json(fault | {"code": code, "detail": detail})

    def _find(self, request: web.Request) -> Conversation:
        text = request.match_info["id"]
        try:
            ident = uuid.UUID(text)
        except ValueError:
            raise RefusedError(422, "conversation id: must be a UUID") from None
        conversation = self._conversations.get(ident)
        if conversation is None:
            raise RefusedError(404, f"there is no conversation {ident}")
        return conversation


def _parse(raw: bytes | str) -> dict[str, Any]:
    try:
        body = json.loads(raw or "{}")
    except (ValueError, RecursionError):  # also bytes that are not UTF-8
        raise RefusedError(400, "the body is no JSON, or nested too deeply") from None
    if not isinstance(body, dict):
        raise RefusedError(422, "the body: must be an object")
    return body


def _text(message: Any, place: str = "the body") -> str:
    """The text of a user message: `{"content": "…"}`, or a list of `{"type": "text", …}` parts."""
    match message:
        case {"content": str(text)}:
            return text
        case {"content": [*parts]} if parts and all(_is_text(part) for part in parts):
            return "\n".join(part["text"] for part in parts)
    raise RefusedError(422, f"{place}: content must be a string or a list of text parts")


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and isinstance(part.get("text"), str)
