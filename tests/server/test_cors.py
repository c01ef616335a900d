"""A page of another origin sees what the proxy answers itself, and not a "network error"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.harness import KEY, echo_settings
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from multidict import CIMultiDictProxy

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow

POOL = "https://pool.test"
USER = "https://user.test"
SESSION = "session-key-of-the-user"


async def _asked(
    proxy: ProxyProcess, path: str, origin: str, method: str = "GET", **headers: str
) -> tuple[int, CIMultiDictProxy[str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()} | {"Origin": origin}
    async with proxy.session.request(method, proxy.url + path, headers=sent) as answer:
        await answer.read()
        return answer.status, answer.headers


async def _preflight(proxy: ProxyProcess, path: str, origin: str) -> dict[str, str]:
    """What a browser is allowed, before it sends a key."""
    status, headers = await _asked(
        proxy, path, origin, "OPTIONS",
        Access_Control_Request_Method="POST", Access_Control_Request_Headers="x-any-key",
    )  # fmt: skip
    allowed = {
        name: headers.get(f"Access-Control-Allow-{name}", "") for name in ("Origin", "Methods")
    }
    return allowed if status == 200 else {}


def _readable(headers: CIMultiDictProxy[str]) -> str | None:
    return headers.get("Access-Control-Allow-Origin")


async def test_answers_of_the_proxy_are_read_by_pages_that_may(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path)
    settings["gate"] = {"cors_origins": [POOL], "session_keys": "enforce"}
    proxy = await serve(settings)
    allowed = {"Origin": POOL, "Methods": "POST"}
    for path, status in (("/api/init", 200), ("/health", 200), ("/api/self", 503)):
        got, headers = await _asked(proxy, path, POOL)
        assert (got, _readable(headers)) == (status, POOL)
        assert "Retry-After" in headers["Access-Control-Expose-Headers"]
        assert await _preflight(proxy, path, POOL) == allowed
        assert _readable((await _asked(proxy, path, USER))[1]) is None
        assert await _preflight(proxy, path, USER) == {}
    refused, headers = await _asked(proxy, "/api/init", POOL, "POST")
    assert (refused, _readable(headers)) == (401, POOL)
    assert headers["WWW-Authenticate"] == 'ApiKey header="X-Init-API-Key"'
    body = {"session_api_keys": [SESSION], "allow_cors_origins": [USER]}
    assert await proxy.init(body, KEY) == (200, READY)
    for path, status in (("/api/init", 200), ("/api/self", 401)):
        got, headers = await _asked(proxy, path, USER)
        assert (got, _readable(headers)) == (status, USER)
        assert _readable((await _asked(proxy, path, POOL))[1]) is None
    _, headers = await _asked(proxy, "/api/self", USER)
    assert headers["WWW-Authenticate"] == 'ApiKey header="X-Session-API-Key"'
