"""How the control plane answers: errors as JSON, and no more said in headers than must be."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from aiohttp import web

from proxy.errors import ProxyError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

logger = logging.getLogger(__name__)

# Seconds a refused caller is asked to stay away: an activation takes about this long.
_RETRY_AFTER: Final = "1"
# Which RFC 9110 section 11.6.1 wants beside a 401.
_CHALLENGE: Final = {"WWW-Authenticate": 'ApiKey header="X-Init-API-Key"'}


def unavailable(detail: str) -> web.Response:
    return web.json_response({"detail": detail}, status=503, headers={"Retry-After": _RETRY_AFTER})


@web.middleware
async def errors_as_json(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except ProxyError as error:
        if error.status == 503:
            return unavailable(str(error))
        headers = _CHALLENGE if error.status == 401 else None
        return web.json_response({"detail": str(error)}, status=error.status, headers=headers)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.path} does not take {request.method}, only {allowed}"
        return web.json_response({"detail": detail}, status=405, headers={"Allow": allowed})
    except web.HTTPException as error:
        return web.json_response({"detail": error.reason}, status=error.status)
    except Exception as error:
        logger.exception("cannot answer", extra={"path": request.path})
        detail = f"internal error: {type(error).__name__}"
        return web.json_response({"detail": detail}, status=500)


async def plain_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.pop("Server", None)  # which versions we run is nobody's business
    response.headers["Cache-Control"] = "no-store"
    if "X-Request-ID" in request.headers:  # the relay sees to it that it is one, and harmless
        response.headers["X-Request-ID"] = request.headers["X-Request-ID"]
    response.headers["X-Content-Type-Options"] = "nosniff"  # an error quotes the upstream's words
