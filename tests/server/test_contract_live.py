"""DESIGN's contract, row by row, on a plain standard-library upstream behind the real proxy."""

from __future__ import annotations

import asyncio
import io
import json
import socket
from typing import TYPE_CHECKING, Any

from yarl import URL

from tests.harness import KEY, echo_settings
from tests.running import DORMANT, READY, SESSION_KEY, activated

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve


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
    (
        b'{"session_api_keys": ["s"], "env": {"OH_SESSION_API_KEYS_0": "k"}}',
        422,
        "OH_SESSION_API_KEYS_0",
    ),
    (b'{"secret_key": "s", "env": {"OH_SECRET_KEY": "k"}}', 422, "OH_SECRET_KEY"),
    (b'{"env": {"PROXY_INIT__KEY": "k"}}', 422, "PROXY_INIT__KEY"),
    (b'{"max_concurrent_runs": 0}', 422, "max_concurrent_runs"),
    (b'{"max_concurrent_runs": "x"}', 422, "max_concurrent_runs"),
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


async def test_upstream_output_is_logged_tagged_and_masked(serve: Serve) -> None:
    proxy = await activated(serve)
    await proxy.get(f"/api/print?line=hello-{SESSION_KEY}")
    line = await proxy.logged(lambda line: "hello-" in line.get("message", ""))
    assert line["logger"] == "upstream"
    assert line["stream"] == "stderr"
    assert line["message"] == "hello-***"
