"""An upstream with its own deferred init, behind ours."""

from __future__ import annotations

import asyncio
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import KEY, ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import Serve

pytestmark = pytest.mark.slow

DORMANT = ROOT / "tests" / "upstreams" / "dormant.py"
OWN_KEY = "the-upstreams-own-key"
BODY = {"env": {"TOKEN": "t-1234567"}, "session_api_keys": ["s-1234567"], "telemetry": {"a": 1}}


class Dormant:
    """The upstream as a process; restarted on the same port."""

    def __init__(self) -> None:
        self.port = 0

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, str(DORMANT), "--port", str(self.port), "--key", OWN_KEY,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        self.port = int(await self._process.stdout.readline())

    async def kill(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()


@asynccontextmanager
async def dormant() -> AsyncIterator[Dormant]:
    upstream = Dormant()
    await upstream.start()
    try:
        yield upstream
    finally:
        await upstream.kill()


def settings(port: int, key: str = OWN_KEY, **upstream: Any) -> dict[str, Any]:
    return {
        "deferred_init": True,
        "listen": {"address": "127.0.0.1:0", "admin": None},
        "init": {"key": KEY, "timeout": 60},
        "upstream": {
            "url": f"http://127.0.0.1:{port}",
            "activation": "forward",
            "forward": {"key": key},
        }
        | upstream,
    }


async def test_an_init_is_passed_on_with_the_upstreams_own_key(serve: Serve) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        assert await proxy.state() == "dormant"
        assert (await proxy.get("/api/x"))[0] == 503
        assert await proxy.init(BODY) == (200, {"state": "ready", "error": None})
        assert (await proxy.get("/api/x"))[1]["delivered"] == BODY
        assert (await proxy.init(BODY))[0] == 400
        assert OWN_KEY not in proxy.text


async def test_the_pod_is_ready_only_once_the_upstream_is_there(serve: Serve) -> None:
    async with dormant() as upstream:
        await upstream.kill()
        proxy = await serve(settings(upstream.port))
        assert (await proxy.get("/health"))[0] == 200
        assert (await proxy.get("/ready"))[0] == 503
        posted = asyncio.create_task(proxy.init(BODY))
        await upstream.start()
        assert (await posted)[0] == 200


async def test_a_refusal_of_the_upstream_is_told_without_values_and_can_be_retried(
    serve: Serve,
) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        status, answer = await proxy.init({"env": {"FAIL": "a-secret-value"}})
        assert (status, answer["state"]) == (500, "dormant")
        assert "answered 500" in answer["error"]
        assert "a-secret-value" not in answer["error"] + proxy.text
        assert (await proxy.init(BODY))[0] == 200


async def test_the_upstreams_own_key_is_told_to_nobody(serve: Serve) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        status, answer = await proxy.init({"env": {"TELL": "yes"}})
        assert status == 500
        assert "cannot take ***" in answer["error"]
        assert OWN_KEY not in proxy.text


async def test_a_long_refusal_that_quotes_the_request_gives_no_part_of_a_value_away(
    serve: Serve,
) -> None:
    """Wherever the answer is cut: what is left of a key there is no longer known to be one."""
    key = "sk-live-" + "0123456789abcdef" * 6
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        for size in (0, 400, 440, 480, 880, 920, 960, 1000, 70_000):
            env = {"ECHO": "yes", "NOTE": "z " * (size // 2), "LLM_API_KEY": key}
            status, answer = await proxy.init({"env": env})
            assert (status, answer["state"]) == (500, "dormant")
            assert "answered 422" in answer["error"]
            assert key[:6] not in answer["error"] + proxy.text
            assert len(answer["error"]) < 1100


async def test_a_wrong_key_for_the_upstream_is_told(serve: Serve) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port, key="another"))
        status, answer = await proxy.init(BODY)
        assert status == 500
        assert "answered 401" in answer["error"]


async def test_an_upstream_that_starts_anew_gets_the_same_init_again(serve: Serve) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        assert (await proxy.init(BODY))[0] == 200
        await upstream.kill()
        await proxy.until("initializing")
        await upstream.start()
        await proxy.until("ready")
        assert (await proxy.get("/api/x"))[1]["delivered"] == BODY


async def test_an_upstream_that_does_not_answer_now_and_then_is_not_taken_for_dead(
    serve: Serve,
) -> None:
    """It could not be activated again: the user's session would be lost."""
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        assert (await proxy.init(BODY))[0] == 200
        assert (await proxy.get("/cut?4"))[0] == 200
        while (await proxy.get("/cuts"))[1]:
            await asyncio.sleep(0.02)
        assert await proxy.state() == "ready"
        assert not [line for line in proxy.log if line.get("cause") == "UPSTREAM_DIED"]


async def test_a_proxy_that_restarts_finds_the_activated_upstream(serve: Serve) -> None:
    async with dormant() as upstream:
        proxy = await serve(settings(upstream.port))
        assert (await proxy.init(BODY))[0] == 200
        proxy.process.kill()
        await proxy.ended()
        again = await serve(settings(upstream.port))
        await again.until("ready")
        assert (await again.get("/api/x"))[1]["delivered"] == BODY
        # What it was activated with only the other proxy knew.
        await upstream.kill()
        await again.until("dormant")
