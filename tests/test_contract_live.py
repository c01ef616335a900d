"""DESIGN's contract, row by row, on a plain standard-library upstream behind the real proxy."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from yarl import URL

from tests.harness import KEY, ROOT, clean_environment, echo_settings

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

SESSION_KEY = "session-key-of-the-user"
DORMANT = {"state": "dormant", "error": None}
READY = {"state": "ready", "error": None}


def pid_alive(pid: int) -> bool:
    try:
        # A zombie is dead for everybody but its parent.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until_dead(pid: int) -> None:
    async with asyncio.timeout(20):
        while pid_alive(pid):
            await asyncio.sleep(0.01)


async def exit_upstream(proxy: ProxyProcess, code: int) -> None:
    # Whether its answer arrives before its end is the upstream's affair.
    with suppress(aiohttp.ClientError):
        await proxy.get(f"/api/exit?code={code}")


async def activated(serve: Serve, **kwargs: Any) -> ProxyProcess:
    proxy = await serve(**kwargs)
    assert await proxy.init({"session_api_keys": [SESSION_KEY]}) == (200, READY)
    return proxy


async def test_dormant_row(serve: Serve) -> None:
    proxy = await serve()
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/ready"))[0] == 200
    assert await proxy.get("/api/init") == (200, DORMANT)
    for path in ("/api/conversations", "/api/init/", "/", "/docs", "/api/%69nit", "/health/"):
        async with proxy.session.get(URL(proxy.url + path, encoded=True)) as answer:
            assert answer.status == 503, path
            assert int(answer.headers["Retry-After"]) > 0
            assert (await answer.json())["detail"]


WRONG_KEYS = [None, "", "wrong", KEY + "x", KEY[:-1], "ключ"]


async def test_wrong_or_missing_key_is_401_in_every_state(serve: Serve) -> None:
    proxy = await serve()
    for key in WRONG_KEYS:
        assert (await proxy.init({}, key=key))[0] == 401, key
    assert await proxy.get("/api/init") == (200, DORMANT)
    assert (await proxy.init({}))[0] == 200
    for key in WRONG_KEYS:
        assert (await proxy.init({}, key=key))[0] == 401, key


async def test_two_keys_are_no_key(serve: Serve) -> None:
    proxy = await serve()
    headers = [("X-Init-API-Key", KEY), ("X-Init-API-Key", KEY)]
    assert (await proxy.request("POST", "/api/init", json={}, headers=headers))[0] == 401


async def test_blank_configured_key_refuses_everybody(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["key"] = "  "
    proxy = await serve(settings)
    for key in (None, "", " ", "  "):
        assert (await proxy.init({}, key=key))[0] == 401


async def test_without_a_key_on_loopback_anybody_may_init(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["key"] = None
    proxy = await serve(settings)
    assert await proxy.init({}, key=None) == (200, READY)


async def test_init_delivers_env_config_file_and_opens_the_gate(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(env={"INHERITED": "yes", "OH_SECRET_KEY": KEY}, deny_env=["HOME"])
    body = {
        "env": {"LLM_API_KEY": "llm-secret"},
        "session_api_keys": [SESSION_KEY, "second-key"],
        "conversations_path": str(tmp_path / "conversations"),
        "max_concurrent_runs": 3,
    }
    assert await proxy.init(body) == (200, READY)
    status, env = await proxy.get("/api/env")
    assert status == 200
    assert env["LLM_API_KEY"] == "llm-secret"
    assert env["OH_SESSION_API_KEYS_0"] == SESSION_KEY
    assert env["OH_SESSION_API_KEYS_1"] == "second-key"
    assert env["OH_CONVERSATIONS_PATH"] == str(tmp_path / "conversations")
    assert env["OH_MAX_CONCURRENT_RUNS"] == "3"
    assert env["OH_SECRET_KEY"] == SESSION_KEY  # defaults to the first session key
    assert env["INHERITED"] == "yes"
    assert "HOME" not in env
    assert KEY not in json.dumps(env)
    assert "OH_DEFERRED_INIT" not in env
    status, config = await proxy.get("/api/config")
    assert config["mode"] == "0o600"
    assert config["content"]["session_api_keys"] == [SESSION_KEY, "second-key"]
    assert config["content"]["max_concurrent_runs"] == 3


async def test_ready_row(serve: Serve) -> None:
    proxy = await activated(serve)
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/ready"))[0] == 200
    assert await proxy.get("/api/init") == (200, READY)
    status, body = await proxy.init({})
    assert status == 400
    assert "ready" in body["detail"]
    assert (await proxy.get("/anything?x=%2f"))[1]["head"].startswith("GET /anything?x=%2f ")


async def test_initializing_row_and_second_init(serve: Serve) -> None:
    proxy = await serve()
    first = asyncio.create_task(proxy.init({"env": {"ECHO_NEVER_READY": "1"}}))
    await proxy.until("initializing")
    assert (await proxy.get("/health"))[0] == 200
    assert (await proxy.get("/ready"))[0] == 200
    assert await proxy.get("/api/init") == (200, {"state": "initializing", "error": None})
    status, body = await proxy.init({})
    assert (status, body["detail"]) == (400, "server already in state: initializing")
    assert (await proxy.get("/api/env"))[0] == 503
    assert (await proxy.init({}, key="wrong"))[0] == 401
    await proxy.stop()
    assert (await first)[0] == 503


async def test_two_inits_at_once_make_one_activation(serve: Serve) -> None:
    proxy = await serve()
    answers = await asyncio.gather(*(proxy.init({"env": {"CLAIM": str(n)}}) for n in range(10)))
    assert sorted(status for status, _ in answers) == [200] + [400] * 9
    winner = [status for status, _ in answers].index(200)
    assert (await proxy.get("/api/env"))[1]["CLAIM"] == str(winner)


MALFORMED = [
    (b"", 400, "body"),
    (b"{", 400, "line 1"),
    (b"[]", 400, "object"),
    (b'{"env": {"A": "1"}, "env": {}}', 400, "env"),
    (b"\xff\xfe", 400, "UTF-8"),
    (b'{"sesion_api_keys": []}', 422, "session_api_keys"),
    (b'{"session_api_keys": [""]}', 422, "session_api_keys"),
    (b'{"session_api_keys": "k"}', 422, "session_api_keys"),
    (b'{"env": {"A=B": "1"}}', 422, "env"),
    (b'{"env": {"": "1"}}', 422, "env"),
    (b'{"env": {"A": "a\\u0000b"}}', 422, "env"),
    (b'{"env": {"OH_SESSION_API_KEYS_0": "k"}}', 422, "OH_SESSION_API_KEYS_0"),
    (b'{"env": {"OH_SECRET_KEY": "k"}}', 422, "OH_SECRET_KEY"),
    (b'{"env": {"PROXY_INIT__KEY": "k"}}', 422, "PROXY_INIT__KEY"),
    (b'{"max_concurrent_runs": 0}', 422, "max_concurrent_runs"),
    (b'{"max_concurrent_runs": "3"}', 422, "max_concurrent_runs"),
    (b'{"pad": "' + b"x" * 1_100_000 + b'"}', 413, "1048576"),
]


async def test_malformed_inits_are_refused_and_change_nothing(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve()
    for body, status, named in MALFORMED:
        answer = await proxy.request(
            "POST", "/api/init", data=io.BytesIO(body), headers={"X-Init-API-Key": KEY}
        )
        assert answer[0] == status, (body[:60], answer)
        assert named in answer[1]["detail"], (body[:60], answer)
    assert await proxy.get("/api/init") == (200, DORMANT)
    assert not (tmp_path / "run").exists()
    assert await proxy.init({}) == (200, READY)


async def test_oversized_body_without_a_length_is_413(serve: Serve) -> None:
    proxy = await serve()

    async def body() -> Any:
        for _ in range(40):
            yield b"x" * 65536

    answer = await proxy.request("POST", "/api/init", data=body(), headers={"X-Init-API-Key": KEY})
    assert answer[0] == 413


async def test_other_methods_on_init_are_405(serve: Serve) -> None:
    proxy = await serve()
    for method in ("PUT", "DELETE", "PATCH"):
        status, body = await proxy.request(method, "/api/init")
        assert status == 405
        assert method in body["detail"]


async def test_failed_init_says_why_masks_undoes_and_can_be_retried(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve()
    secret = "users-secret-token"
    env = {"ECHO_EXIT": "3", "ECHO_LAST_WORDS": "TOKEN", "TOKEN": secret}
    status, body = await proxy.init({"env": env, "session_api_keys": [SESSION_KEY]})
    assert status == 500
    assert body["state"] == "dormant"
    assert "exited with code 3" in body["error"]
    assert body["error"].endswith("cannot log in with ***")
    assert await proxy.get("/api/init") == (200, body)
    assert not (tmp_path / "run").exists()
    assert (await proxy.get("/api/env"))[0] == 503
    assert await proxy.init({"env": {"SECOND": "1"}}) == (200, READY)
    after = (await proxy.get("/api/env"))[1]
    assert after["SECOND"] == "1"
    assert not {"TOKEN", "ECHO_EXIT", "OH_SESSION_API_KEYS_0"} & set(after)
    await proxy.stop()
    assert secret not in proxy.text
    assert SESSION_KEY not in proxy.text
    assert KEY not in proxy.text


async def test_upstream_that_cannot_be_started_is_named(serve: Serve) -> None:
    proxy = await serve(command=["/nonexistent/agent-server", "--x"])
    status, body = await proxy.init({})
    assert status == 500
    assert "/nonexistent/agent-server" in body["error"]
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"


async def test_init_deadline_is_504_and_undone(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["init"]["timeout"] = 0.5
    proxy = await serve(settings)
    child = tmp_path / "child"
    env = {"ECHO_NEVER_READY": "1", "ECHO_CHILD": str(child)}
    status, body = await proxy.init({"env": env})
    assert status == 504
    assert "0.5 s" in body["error"]
    assert "503" in body["error"]  # what the probe saw last
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"
    await until_dead(int(child.read_text()))
    assert not (tmp_path / "run").exists()
    assert (await proxy.init({}))[0] == 200


async def test_poster_hanging_up_does_not_cancel_the_activation(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve()
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    raw = socket.create_connection((host, int(port)))
    body = b'{"env": {"CLAIM": "mine"}}'
    raw.sendall(
        b"POST /api/init HTTP/1.1\r\nHost: x\r\nX-Init-API-Key: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (KEY.encode(), len(body), body)
    )
    await proxy.logged(lambda line: line.get("state") == "initializing")
    raw.close()
    await proxy.until("ready")
    assert (await proxy.get("/api/env"))[1]["CLAIM"] == "mine"


async def test_details_tell_the_start_but_no_value(serve: Serve) -> None:
    proxy = await activated(serve)
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["state"] == "ready"
    assert details["attempt"] == 1
    assert details["restarts"] == 0
    assert details["start"]["kind"] == "cold"
    assert details["pid"] == (await proxy.get("/api/self"))[1]["pid"]
    assert {"start", "probe", "total"} <= set(details["timings"])
    assert SESSION_KEY not in json.dumps(details)


async def test_crash_after_ready_restarts_the_same_plan(serve: Serve) -> None:
    proxy = await activated(serve)
    before = (await proxy.get("/api/self"))[1]["pid"]
    os.kill(before, signal.SIGKILL)
    line = await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    assert line["state"] == "initializing"
    await proxy.until("ready")
    after = (await proxy.get("/api/self"))[1]["pid"]
    assert after != before
    assert (await proxy.get("/api/env"))[1]["OH_SESSION_API_KEYS_0"] == SESSION_KEY
    details = (await proxy.get("/api/init?details=true"))[1]
    assert details["restarts"] == 1


async def test_restart_that_fails_is_tried_again_and_says_why(serve: Serve, tmp_path: Path) -> None:
    # The upstream's own script is gone for a while: every restart fails until it is back.
    script = tmp_path / "server.py"
    settings = echo_settings(tmp_path)
    command = settings["upstream"]["command"]
    original = Path(command[1]).read_text()
    script.write_text(original)
    command[1] = str(script)
    proxy = await activated(serve, settings=settings)
    pid = (await proxy.get("/api/self"))[1]["pid"]
    script.write_text("import sys; sys.exit('not now')")
    os.kill(pid, signal.SIGKILL)
    await proxy.logged(lambda line: line.get("message") == "restart failed")
    assert await proxy.state() == "initializing"
    script.write_text(original)
    await proxy.until("ready")


async def test_crash_with_on_exit_dormant_awaits_a_new_init(serve: Serve, tmp_path: Path) -> None:
    proxy = await activated(serve, on_exit="dormant")
    await exit_upstream(proxy, 7)
    await proxy.until("dormant")
    assert "exited with code 7" in (await proxy.get("/api/init"))[1]["error"]
    assert not (tmp_path / "run").exists()
    assert (await proxy.get("/api/env"))[0] == 503
    assert await proxy.init({}) == (200, READY)
    assert "OH_SESSION_API_KEYS_0" not in (await proxy.get("/api/env"))[1]


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("kill", 137), ("term", 143)])
async def test_crash_with_on_exit_exit_ends_with_the_upstreams_code(
    serve: Serve, how: str, code: int
) -> None:
    proxy = await activated(serve, on_exit="exit")
    pid = (await proxy.get("/api/self"))[1]["pid"]
    if how == "exit":
        await exit_upstream(proxy, 7)
    else:
        os.kill(pid, signal.SIGKILL if how == "kill" else signal.SIGTERM)
    assert await proxy.ended() == code


async def test_without_deferred_init_the_upstream_starts_at_once(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, env={"FROM_SETTINGS": "yes"})
    settings["deferred_init"] = False
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("state") == "ready")
    assert (await proxy.get("/api/init"))[0] == 404
    assert (await proxy.init({}))[0] == 404
    assert (await proxy.get("/ready"))[0] == 200
    assert (await proxy.get("/api/env"))[1]["FROM_SETTINGS"] == "yes"


async def test_without_deferred_init_a_failing_upstream_ends_the_proxy_by_on_exit(
    serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, env={"ECHO_EXIT": "9"}, on_exit="exit")
    settings["deferred_init"] = False
    proxy = await serve(settings)
    assert await proxy.ended() == 9


async def test_upstream_output_is_logged_tagged_and_masked(serve: Serve) -> None:
    proxy = await activated(serve)
    await proxy.get(f"/api/print?line=hello-{SESSION_KEY}")
    line = await proxy.logged(lambda line: "hello-" in line.get("message", ""))
    assert line["logger"] == "upstream"
    assert line["stream"] == "stderr"
    assert line["message"] == "hello-***"


async def test_serve_without_file_and_command_serves_the_sample_agent(tmp_path: Path) -> None:
    env = clean_environment(PROXY_LISTEN__ADDRESS=f"unix:{tmp_path / 'p.sock'}")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve",
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=env,
    )  # fmt: skip
    assert process.stderr is not None
    async for line in process.stderr:
        if json.loads(line).get("state") == "ready":
            break
    connector = aiohttp.UnixConnector(str(tmp_path / "p.sock"))
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get("http://proxy/api/init") as answer:
            assert answer.status == 404
        async with session.get("http://proxy/api/conversations") as answer:
            assert answer.status == 200
    process.terminate()
    await process.communicate()
    assert process.returncode == 0
    assert not (tmp_path / "p.sock").exists()
