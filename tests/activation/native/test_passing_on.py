"""An init is passed on to a server that waits in a dormant mode of its own."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.native.waiting import (
    BODY,
    KEY,
    READY,
    claimable,
    mood,
    settings,
    start_of,
    told,
    waiting,
)
from tests.running import children_of, launcher_of, until_dead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_the_server_that_was_dormant_serves_and_asks_for_the_key(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    dormant = (await proxy.get("/server_info"))[1]
    assert dormant["state"] == "dormant"
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    assert (await told(proxy))["pid"] == dormant["pid"]
    assert (await proxy.get("/api/self"))[0] == 401
    assert (await proxy.init(BODY))[0] == 400


async def test_the_environment_is_that_of_a_cold_start(serve: Serve, tmp_path: Path) -> None:
    env = {"DEPLOYED": "yes", "OH_ENABLE_VSCODE": "false"}
    proxy = await waiting(serve, tmp_path, env=env)
    assert await proxy.init(BODY) == READY
    native = await told(proxy)
    await proxy.stop()
    cold = await serve(settings(tmp_path, env=env, dormancy="cold"))
    assert await cold.init(BODY) == READY
    started = await told(cold)
    switched_off = {"OH_DEFERRED_INIT": ""}
    assert native["env"] == started["env"] | switched_off
    assert native["fields"] == {"session_api_keys": [KEY], "secret_key": KEY}


async def test_while_dormant_nothing_of_the_pods_key_is_in_the_server(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    assert await proxy.init(BODY) == READY
    before = (await told(proxy))["started_with"]
    assert before["OH_SECRET_KEY"] not in {KEY, "bootstrap-key-of-the-pool"}
    assert len(before["OH_SECRET_KEY"]) > 40
    assert before["OH_SECRET_KEY"] not in proxy.text
    assert "LLM_API_KEY" not in before


async def test_the_deployments_own_secret_key_stays_in_force(serve: Serve, tmp_path: Path) -> None:
    proxy = await waiting(serve, tmp_path, env={"OH_SECRET_KEY": "of-the-deployment"})
    assert await proxy.init({"env": {"A": "b"}}) == READY
    assert await start_of(proxy) == ("native", None)
    after = await told(proxy, key=None)
    assert after["fields"]["secret_key"] == after["env"]["OH_SECRET_KEY"] == "of-the-deployment"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "no secret_key follows from it, and its own init has no word for that"),
        (BODY | {"env": {"OH_ENABLE_VSCODE": "0"}}, "OH_ENABLE_VSCODE is read before an init"),
        (BODY | {"env": {"OH_WEB_URL": "http://x"}}, "OH_WEB_URL is read before an init"),
        (BODY | {"env": {"LD_PRELOAD": ""}}, "LD_PRELOAD acts before Python code runs"),
        (BODY | {"webhooks": []}, "OH_WEBHOOKS_0_BASE_URL would have to be removed"),
        (BODY | {"allow_cors_origins": ["https://x.test"]}, "no effect on allow_cors_origins"),
        (BODY | {"previous_secret_keys": ["x"]}, "refused the request (422: previous_secret_keys)"),
    ],
)
async def test_what_its_own_init_cannot_express_is_started_anew(
    serve: Serve, tmp_path: Path, body: dict[str, Any], why: str
) -> None:
    mood(tmp_path, unknown=["previous_secret_keys"])
    env = {"OH_WEBHOOKS_0_BASE_URL": "http://baked.test"}
    proxy = await waiting(serve, tmp_path, env=env)
    dormant = (await proxy.get("/server_info"))[1]["pid"]
    assert await proxy.init(body) == READY
    kind, reason = await start_of(proxy)
    assert kind == "cold"
    assert reason is not None
    assert why in reason
    answer = await told(proxy, key=KEY if body else None)
    assert answer["pid"] != dormant
    assert answer["env"].get("OH_DEFERRED_INIT") is None
    await until_dead(dormant)


async def test_a_field_without_effect_is_not_tried_twice(serve: Serve, tmp_path: Path) -> None:
    proxy = await waiting(serve, tmp_path, on_exit="dormant")
    body = BODY | {"allow_cors_origins": ["https://x.test"]}
    for _ in range(2):
        assert await proxy.init(body) == READY
        assert (await start_of(proxy))[0] == "cold"
        os.kill((await told(proxy))["pid"], signal.SIGKILL)
        await proxy.until("dormant")
        await claimable(proxy)
    warned = [line for line in proxy.log if "no effect" in line["message"]]
    assert len(warned) == 1
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)


async def test_an_origin_that_is_seen_to_be_allowed_is_passed_on(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, cors=True)
    proxy = await waiting(serve, tmp_path)
    assert await proxy.init(BODY | {"allow_cors_origins": ["https://x.test"]}) == READY
    assert await start_of(proxy) == ("native", None)


async def test_a_server_that_does_not_ask_for_its_keys_is_started_anew_and_not_tried_again(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, init="deaf")
    proxy = await waiting(serve, tmp_path, on_exit="dormant")
    for _ in range(2):
        assert await proxy.init(BODY) == READY
        kind, why = await start_of(proxy)
        assert kind == "cold"
        assert why is not None
        assert "no effect on session_api_keys" in why
        assert (await proxy.get("/api/self"))[0] == 401
        os.kill((await told(proxy))["pid"], signal.SIGKILL)
        await proxy.until("dormant")
        await claimable(proxy)


async def test_a_crash_after_ready_is_followed_by_a_dormant_server_and_the_same_init(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path)
    assert await proxy.init(BODY) == READY
    first = (await told(proxy))["pid"]
    os.kill(first, signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    assert await start_of(proxy) == ("native", None)
    again = await told(proxy)
    assert again["pid"] != first
    assert again["env"]["LLM_API_KEY"] == "sk-1234567"


async def test_with_a_preload_a_crash_is_followed_by_a_fork(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(settings(tmp_path, preload={"modules": ["json"]}, dormancy="auto"))
    await proxy.logged(lambda line: line.get("message") == "fork server is warm")
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    os.kill((await told(proxy))["pid"], signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    assert (await start_of(proxy))[0] == "warm"
    assert (await told(proxy))["env"]["LLM_API_KEY"] == "sk-1234567"


async def test_exit_ends_the_proxy_with_the_code_of_the_server(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await waiting(serve, tmp_path, on_exit="exit")
    assert await proxy.init(BODY) == READY
    os.kill((await told(proxy))["pid"], signal.SIGKILL)
    assert await proxy.ended() == 128 + signal.SIGKILL


async def test_many_users_one_after_the_other(serve: Serve, tmp_path: Path) -> None:
    proxy = await waiting(serve, tmp_path, on_exit="dormant")
    pids = set()
    for i in range(10):
        key = f"key-of-user-{i}"
        assert await proxy.init({"session_api_keys": [key], "env": {"USER_NO": str(i)}}) == READY
        assert await start_of(proxy) == ("native", None)
        answer = await told(proxy, key=key)
        assert answer["env"]["USER_NO"] == str(i)
        pids.add(answer["pid"])
        os.kill(answer["pid"], signal.SIGKILL)
        await proxy.until("dormant")
        await claimable(proxy)
    assert len(pids) == 10
    launcher = await launcher_of(proxy)
    assert len(children_of(launcher)) == 1


async def test_an_init_that_comes_while_the_server_comes_up_waits_for_it(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(settings(tmp_path))
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)


async def test_a_shutdown_ends_a_dormant_server(serve: Serve, tmp_path: Path) -> None:
    proxy = await waiting(serve, tmp_path)
    pid = (await proxy.get("/server_info"))[1]["pid"]
    assert await proxy.stop() == 0
    await until_dead(pid)
    assert not (tmp_path / "run").exists()


async def test_another_server_can_be_described(serve: Serve, tmp_path: Path) -> None:
    native = {
        "switch": {"OH_DEFERRED_INIT": "true"},
        "key_env": "OH_SECRET_KEY",
        "guarded": "/api/self",
        "open_paths": ["/server_info"],
    }
    fields = {"session_api_keys": {"env": "OH_SESSION_API_KEYS", "encode": "indexed"}}
    mapping = {"fields": fields, "native": native}
    chosen = settings(tmp_path, profile="none", mapping=mapping, dormancy="native")
    proxy = await serve(chosen)
    await claimable(proxy)
    assert (await proxy.get("/server_info"))[1]["state"] == "dormant"
    assert (await proxy.get("/alive"))[0] == 503
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("native", None)
    assert (await told(proxy))["fields"] == {"session_api_keys": [KEY]}


async def test_a_command_that_nothing_is_told_of_is_never_started_before_an_init(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(settings(tmp_path, profile="none"))
    await claimable(proxy)
    assert not children_of(await launcher_of(proxy))
