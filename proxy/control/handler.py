"""The control plane's end of a connection: aiohttp's, saying no more than it must.

What aiohttp cannot read it would answer with plain text that quotes the request and names our
versions, and log with a traceback that any stranger can cause.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from aiohttp import web

logger = logging.getLogger(__name__)

# Fields that the relay adds to a head it has counted.
_ADDED_FIELDS: Final = 8


class Handler(web.RequestHandler):
    """Reads what the relay has let through, and answers faults as the application would.

    `head_size` (bytes) and `header_count` are the relay's limits, `idle` the seconds after which
    it closes a quiet client: this end must not be the first.
    """

    __slots__ = ()

    def __init__(
        self, manager: web.Server, *, head_size: int, header_count: int, idle: float
    ) -> None:
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]  # a Server passes None on as well
            keepalive_timeout=idle * 2,
            max_line_size=head_size,
            max_field_size=head_size,
            max_headers=header_count + _ADDED_FIELDS,
            # A compressed body costs a stranger nothing and us seconds, key or no key.
            auto_decompress=False,
        )

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  it quotes the request
    ) -> web.StreamResponse:
        if status < 500:
            logger.info("cannot read a request", extra={"fault": type(exc).__name__})
            detail = "cannot read the request: its head or body is malformed"
        else:
            logger.error("cannot answer", exc_info=exc)
            detail = f"internal error: {type(exc).__name__}"
        if request.writer.output_size > 0:
            raise ConnectionError("cannot answer: part of another answer has been sent")
        answer = web.json_response({"detail": detail}, status=status, headers={"Server": "proxy"})
        answer.force_close()
        return answer
