"""A stand-in for a model provider: OpenAI's chat completions, streaming or not.

It answers like a model that needs one turn: it calls the agent's `finish` tool with `ANSWER`, or
says it plainly when it was offered no such tool (a title for the conversation, for example). A
conversation whose text contains `HOLD` is kept waiting for its turn until `release` is set; its
title is not, for which some releases ask first, before the conversation runs.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from aiohttp import web

from tests.real.local import LocalServer

ANSWER = "The answer is forty-two."
HOLD = "please-hold-the-line"


class Provider(LocalServer):
    """`requests` are the bodies it was sent, `keys` their keys."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.release = asyncio.Event()
        self.held = asyncio.Event()
        application = web.Application(client_max_size=2**24)
        application.router.add_post("/v1/chat/completions", self._complete)
        super().__init__(application)

    def hold(self) -> None:
        """Keep those waiting that are to be, from here on."""
        self.held.clear()
        self.release.clear()

    @property
    def base_url(self) -> str:
        """What an agent's `llm.base_url` must be."""
        return f"{self.url}/v1"

    async def __aexit__(self, *raised: object) -> None:
        self.release.set()
        await super().__aexit__(*raised)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.keys.append(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if body.get("tools") and HOLD in json.dumps(body["messages"]):
            self.held.set()
            await self.release.wait()
        message = _message(body)
        if body.get("stream"):
            return await _streamed(request, body, message)
        finish = "tool_calls" if "tool_calls" in message else "stop"
        choice = {"index": 0, "message": message, "finish_reason": finish}
        return web.json_response(_envelope(body, "chat.completion", choice) | {"usage": _USAGE})


_USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def _message(body: dict[str, Any]) -> dict[str, Any]:
    for tool in body.get("tools") or []:
        if tool["function"]["name"] == "finish":
            call = {"name": "finish", "arguments": json.dumps({"message": ANSWER})}
            calls = [{"id": "call_1", "type": "function", "function": call}]
            return {"role": "assistant", "content": None, "tool_calls": calls}
    return {"role": "assistant", "content": ANSWER}


def _envelope(body: dict[str, Any], kind: str, choice: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": kind,
        "created": 1_700_000_000,
        "model": body["model"],
        "choices": [choice],
    }


async def _streamed(
    request: web.Request, body: dict[str, Any], message: dict[str, Any]
) -> web.StreamResponse:
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    calls = message.get("tool_calls")
    delta = message | ({"tool_calls": [{"index": 0} | call for call in calls]} if calls else {})
    for choice in (
        {"index": 0, "delta": delta, "finish_reason": None},
        {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"},
    ):
        chunk = _envelope(body, "chat.completion.chunk", choice)
        await answer.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    await answer.write(b"data: [DONE]\n\n")
    return answer
