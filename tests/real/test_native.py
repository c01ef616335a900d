"""Its own dormant mode: what it leaves open, crashes, users one after the other, an old release."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.real.pods import MODEL_KEY, SESSION_KEY, dormant_pod

if TYPE_CHECKING:
    from pathlib import Path

    from tests.real.pods import Pod
    from tests.real.provider import Provider

BODY: dict[str, Any] = {"session_api_keys": [SESSION_KEY], "env": {"LLM_API_KEY": MODEL_KEY}}
READY = (200, {"state": "ready", "error": None})
COUNT = "/api/conversations/count"
CLAIMS = 5  # each boots a server

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(900),
    pytest.mark.asyncio(loop_scope="module"),
]


async def expect_locked(pod: Pod) -> None:
    for key in (None, "wrong", ""):
        assert await pod.status(COUNT, key=key) == 401
    assert await pod.status(COUNT) == 200


async def kill(pod: Pod) -> None:
    details = (await pod.proxy.get("/api/init?details=true"))[1]
    os.kill(details["pid"], signal.SIGKILL)
    await pod.proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")


async def test_a_dormant_server_serves_its_user_and_comes_back_after_a_crash(
    tmp_path: Path, provider: Provider
) -> None:
    async with dormant_pod("newest", tmp_path, dormancy="auto") as pod:
        for path in ("/server_info", "/", "/docs", "/redoc", "/openapi.json", "/alive"):
            assert await pod.status(path, key=None) == 200, path
        for path in (COUNT, "/server_info/", "/api/init/", "/sockets/bash-events"):
            assert await pod.status(path, key=None) == 503, path
        assert await pod.proxy.init(BODY) == READY
        assert await pod.start() == {"kind": "native", "why": None}
        await expect_locked(pod)
        assert await pod.run('printf %s "$LLM_API_KEY"') == MODEL_KEY
        assert await pod.over(await pod.start_conversation(provider)) == "finished"
        await kill(pod)
        await pod.ready()
        assert await pod.start() == {"kind": "native", "why": None}
        await expect_locked(pod)
        assert await pod.over(await pod.start_conversation(provider)) == "finished"


async def test_nobody_can_use_the_servers_own_init_behind_the_proxy(tmp_path: Path) -> None:
    async with dormant_pod("newest", tmp_path, dormancy="auto") as pod:
        assert await pod.proxy.init(BODY) == READY
        key = (await pod.environment())["OH_SECRET_KEY"]
        assert key not in pod.proxy.text
        answers = [
            await pod.run(
                "curl -s -o /dev/null -w %{http_code} -X POST -H 'content-type: application/json'"
                f" -H 'X-Init-API-Key: {each}' -d '{{}}' $OH_INTERNAL_SERVER_URL/api/init"
            )
            for each in (key, SESSION_KEY)
        ]
        assert answers == ["401", "400"]


async def test_users_one_after_the_other(tmp_path: Path) -> None:
    async with dormant_pod("newest", tmp_path, dormancy="auto", on_exit="dormant") as pod:
        for i in range(CLAIMS):
            key = f"key-of-user-{i}"
            body = {"session_api_keys": [key], "env": {"USER_NO": str(i)}}
            assert await pod.proxy.init(body) == READY
            assert await pod.start() == {"kind": "native", "why": None}
            assert await pod.status(COUNT, key=key) == 200
            assert await pod.status(COUNT, key=f"key-of-user-{i - 1}") == 401
            await kill(pod)
            pod.proxy.log.clear()
            await pod.claimable()


async def test_a_release_that_does_not_heed_its_session_keys_is_started_anew(
    tmp_path: Path, provider: Provider
) -> None:
    async with dormant_pod("1.29.0", tmp_path, dormancy="auto") as pod:
        assert await pod.status("/server_info", key=None) == 200
        assert await pod.proxy.init(BODY) == READY
        assert await pod.start() == {
            "kind": "cold",
            "why": "its own init has no effect on session_api_keys: "
            f"{COUNT} answered 200 to a wrong session key",
        }
        await expect_locked(pod)
        assert await pod.over(await pod.start_conversation(provider)) == "finished"
