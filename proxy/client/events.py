"""Server-sent events of `GET /api/init`, as far as they are used there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from proxy.client.answers import MOST_BYTES, AnswerError, read_status

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import aiohttp

    from proxy.client.answers import InitStatus


class EventReader:
    """Reads streams one after the other; `last_id` is where the next one goes on."""

    def __init__(self) -> None:
        self.last_id: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What asks for a stream, or, of a server without streams, for a status."""
        accept = {"Accept": "text/event-stream, application/json;q=0.9"}
        return accept | ({"Last-Event-ID": self.last_id} if self.last_id else {})

    async def read(self, answer: aiohttp.ClientResponse) -> AsyncGenerator[InitStatus]:
        """The statuses of one stream, until it ends. Raises `AnswerError` for what is none."""
        data: list[str] = []
        lines = aiter(answer.content)
        while True:
            try:
                raw = await anext(lines)
            except StopAsyncIteration:
                return
            except ValueError as error:
                raise AnswerError(answer.status, "an event is too long") from error
            line = raw.decode(errors="replace").rstrip("\r\n")
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "id":
                self.last_id = value
            elif name == "data" and len(data) < MOST_BYTES // 1024:
                data.append(value)
            elif not line and data:
                yield _status("\n".join(data), answer.status)
                data.clear()


def _status(text: str, http_status: int) -> InitStatus:
    try:
        status = read_status(json.loads(text))
    except (ValueError, RecursionError):
        status = None
    if status is None:
        raise AnswerError(http_status, "an event of the stream is no status")
    return status
