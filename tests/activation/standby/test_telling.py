"""A server that runs while it is dormant is told of the init by requests."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.native.waiting import claimable, start_of
from tests.activation.standby.standing import (
    BODY,
    FIELDS,
    READY,
    REQUEST,
    TOKEN,
    mood,
    settings,
    standing,
    told,
)
from tests.running import children_of, launcher_of, until_dead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow


async def server_of(proxy: ProxyProcess) -> int:
    (pid,) = children_of(await launcher_of(proxy))
    return pid


async def test_the_server_that_ran_already_is_told_and_serves(serve: Serve, tmp_path: Path) -> None:
    proxy = await standing(serve, tmp_path)
    assert (await proxy.get("/api/init?details=true"))[1]["next"]["kind"] == "standby"
    pid = await server_of(proxy)
    assert (await proxy.get("/self"))[0] == 503
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("standby", None)
    about = await told(proxy)
    assert about["pid"] == pid
    (request,) = about["told"]
    assert request["method"] == "PUT"
    assert request["target"] == "/auth/a%2Fb%20c?x=sk-%2212%5C34567"
    assert json.loads(request["body"]) == {"type": "api", "key": TOKEN}
    assert request["headers"]["Content-Type"] == "application/json"
    assert TOKEN not in json.dumps(about["env"])
    assert TOKEN not in proxy.text


async def test_what_every_server_of_the_pod_has_is_no_difference(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await standing(
        serve, tmp_path, mapping={"fields": FIELDS, "variables": {"LC_ALL": "C.UTF-8"}}
    )
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("standby", None)


async def test_the_pod_is_not_ready_before_the_server_is(serve: Serve, tmp_path: Path) -> None:
    mood(tmp_path, boot="silent")
    proxy = await serve(settings(tmp_path))
    async with asyncio.timeout(30):
        while not children_of(await launcher_of(proxy)):
            await asyncio.sleep(0.01)
    assert (await proxy.get("/ready"))[0] == 503
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"
    mood(tmp_path)
    await claimable(proxy)


async def test_an_init_that_comes_early_waits_for_the_server(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(settings(tmp_path))
    assert await proxy.init(BODY) == READY
    assert await start_of(proxy) == ("standby", None)


@pytest.mark.parametrize(
    ("how", "status", "error"),
    [
        ("refuse", 500, 'PUT /auth/{provider}?x={token} was answered 400: {"no": "'),
        ("redirect", 500, "PUT /auth/{provider}?x={token} was answered 302: "),
        ("deaf", 500, 'was answered 200 without "taken": true: {"taken": false}'),
        ("hang", 500, "PUT /auth/{provider}?x={token} was not answered within 1 s"),
        ("die", 500, "the upstream exited with code 4"),
    ],
)
async def test_a_request_that_fails_is_named_and_leaves_nothing(
    serve: Serve, tmp_path: Path, how: str, status: int, error: str
) -> None:
    mood(tmp_path, auth=how)
    proxy = await standing(serve, tmp_path)
    first = await server_of(proxy)
    answered, answer = await proxy.init(BODY)
    assert (answered, answer["state"]) == (status, "dormant")
    assert error in answer["error"]
    assert ("the last words of the server" in answer["error"]) == (how == "die")
    assert "34567" not in answer["error"] + proxy.text
    await until_dead(first)
    mood(tmp_path)
    await claimable(proxy)
    assert await proxy.init({"token": "another", "provider": "x"}) == READY
    assert await start_of(proxy) == ("standby", None)
    (request,) = (await told(proxy))["told"]
    assert request["target"] == "/auth/x?x=another"


async def test_a_deadline_that_passes_meanwhile_names_the_request(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, auth="hang")
    patient = {"requests": [REQUEST | {"timeout": 60}]}
    chosen = settings(tmp_path, standby=patient)
    chosen["init"]["timeout"] = 3
    proxy = await serve(chosen)
    await claimable(proxy)
    status, answer = await proxy.init(BODY)
    assert status == 504
    assert "not ready within init.timeout" in answer["error"]
    assert "PUT /auth/{provider}?x={token} is not answered" in answer["error"]


@pytest.mark.parametrize(
    ("more", "body", "why"),
    [
        ({}, {"env": {"A": "b"}}, "A is told by no request"),
        ({}, {"env": {"LD_PRELOAD": ""}}, "LD_PRELOAD is told by no request"),
        ({}, {"greeting": "hello"}, "its arguments are told by no request"),
        ({}, {"conversations_path": "/x"}, "/run/settings.json is told by no request"),
    ],
)
async def test_what_no_request_tells_is_started_anew_and_told_then(
    serve: Serve, tmp_path: Path, more: dict[str, Any], body: dict[str, Any], why: str
) -> None:
    mapping = {
        "fields": FIELDS
        | {"greeting": {"type": "string"}, "conversations_path": {"file": "settings"}},
        "files": {"settings": {"path": "{run_dir}/settings.json"}},
    }
    command = [*settings(tmp_path)["upstream"]["command"], "--greeting={greeting:-none}"]
    proxy = await standing(serve, tmp_path, mapping=mapping, command=command, **more)
    first = await server_of(proxy)
    assert await proxy.init(BODY | body) == READY
    kind, reason = await start_of(proxy)
    assert kind == "cold"
    assert reason is not None
    assert reason.endswith(why)
    about = await told(proxy)
    assert about["pid"] != first
    assert about["greeting"] == body.get("greeting", "none")
    assert [json.loads(each["body"])["key"] for each in about["told"]] == [TOKEN]
    await until_dead(first)


async def test_variables_that_are_told_go_nowhere_else(serve: Serve, tmp_path: Path) -> None:
    told_by = REQUEST | {"path": "/auth/x", "body": "{env.LLM_API_KEY}"}
    proxy = await standing(serve, tmp_path, mapping={}, standby={"requests": [told_by]})
    assert await proxy.init({"env": {"LLM_API_KEY": "sk-1234567"}}) == READY
    assert await start_of(proxy) == ("standby", None)
    about = await told(proxy)
    assert [each["body"] for each in about["told"]] == ["sk-1234567"]
    assert "LLM_API_KEY" not in about["env"]


async def test_nothing_of_the_last_user_is_in_the_next_ones_server(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await standing(serve, tmp_path, on_exit="dormant")
    pids = set()
    for i in range(5):
        body = {"token": f"key-of-user-{i}", "provider": f"of-user-{i}"}
        assert await proxy.init(body) == READY
        assert await start_of(proxy) == ("standby", None)
        about = await told(proxy)
        assert [each["target"] for each in about["told"]] == [
            f"/auth/of-user-{i}?x=key-of-user-{i}"
        ]
        assert f"user-{i - 1}" not in json.dumps(about)
        pids.add(about["pid"])
        os.kill(about["pid"], signal.SIGKILL)
        await proxy.until("dormant")
        await claimable(proxy)
    assert len(pids) == 5
    assert await server_of(proxy) not in pids


async def test_after_a_crash_another_server_is_told_the_same(serve: Serve, tmp_path: Path) -> None:
    proxy = await standing(serve, tmp_path)
    assert await proxy.init(BODY) == READY
    first = await told(proxy)
    os.kill(first["pid"], signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    again = await told(proxy)
    assert again["pid"] != first["pid"]
    assert [each["body"] for each in again["told"]] == [each["body"] for each in first["told"]]


async def test_a_shutdown_ends_the_server_that_waits(serve: Serve, tmp_path: Path) -> None:
    proxy = await standing(serve, tmp_path)
    pid = await server_of(proxy)
    assert await proxy.stop() == 0
    await until_dead(pid)


@pytest.mark.parametrize("dormancy", ["standby", "auto"])
async def test_a_server_that_cannot_be_without_a_user_is_started_at_the_init_and_told_then(
    serve: Serve, tmp_path: Path, dormancy: str
) -> None:
    mood(tmp_path, boot="die")
    nothing: dict[str, Any] = {"modules": []}
    proxy = await serve(settings(tmp_path, dormancy=dormancy, preload=nothing))
    await claimable(proxy)
    mood(tmp_path)
    assert await proxy.init(BODY) == READY
    kind, why = await start_of(proxy)
    assert (kind, why) == ("cold", "the upstream exited with code 5 before it was ready")
    assert len((await told(proxy))["told"]) == 1


async def test_a_server_that_does_not_come_up_in_time_ends_a_pod_that_is_to_stand_by(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="silent")
    proxy = await serve(settings(tmp_path, preload={"timeout": 1}))
    assert await proxy.ended() == 1
    (line,) = [line for line in proxy.log if line["message"] == "cannot start"]
    late = "the upstream was not ready within preload.timeout (1 s): "
    assert line["error"].startswith(f"upstream.dormancy is standby, but {late}")
