"""A link for a browser, and the proxy's own paths under a prefix."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request

from proxy.client import InitClient
from proxy.control.login import LIFETIME, Login
from proxy.errors import StateError, WrongKeyError
from tests.harness import KEY, echo_settings
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

POOL = {"X-Init-API-Key": KEY}
SESSION_KEY = "key; that = no cookie"


def enforcing(tmp_path: Path, **control: Any) -> dict[str, Any]:
    settings = echo_settings(tmp_path, profile="none")
    gate = {"session_keys": "enforce"}
    return settings | {"gate": gate, "control": control, "log": {"access": "all"}}


async def link(proxy: ProxyProcess, prefix: str = "") -> str:
    status, body = await proxy.request("POST", f"{prefix}/api/init/login", headers=POOL)
    assert (status, body["expires_in"]) == (200, LIFETIME), body
    return str(body["path"])


async def followed(proxy: ProxyProcess, path: str, **headers: str) -> tuple[int, str, str]:
    async with proxy.session.get(
        proxy.url + path, headers=headers, allow_redirects=False
    ) as answer:
        place, cookie = answer.headers.get("Location", ""), answer.headers.get("Set-Cookie", "")
        return answer.status, place, cookie


async def test_a_browser_is_let_in_by_a_link_that_works_once(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(enforcing(tmp_path))
    assert (await proxy.request("POST", "/api/init/login", headers=POOL))[0] == 400
    assert await proxy.init({"session_api_keys": [SESSION_KEY]}) == (200, READY)
    assert (await proxy.request("POST", "/api/init/login"))[0] == 401
    path = await link(proxy)
    async with proxy.session.head(proxy.url + path) as looked:
        assert looked.status == 405
    status, place, cookie = await followed(proxy, f"{path}&next=/app%3Fa=b")
    assert (status, place) == (303, "/app?a=b")
    assert {"HttpOnly", "Path=/", "SameSite=Lax"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert SESSION_KEY not in cookie + path

    value = cookie.partition(";")[0]
    assert (await proxy.get("/app", headers={"Cookie": value}))[0] == 200
    assert (await proxy.get("/app"))[0] == 401
    assert (await followed(proxy, path))[0] == 401
    token, ticket = path.partition("token=")[2], value.partition("=")[2]
    await proxy.get(f"/api/print?line={ticket}", headers={"Cookie": value})
    await proxy.logged(lambda line: line.get("logger") == "upstream" and "***" in line["message"])
    assert not {token, ticket, SESSION_KEY} & set(re.split(r'[\s"&=?]+', proxy.text))


async def test_what_a_link_opened_is_shut_with_the_server(serve: Serve, tmp_path: Path) -> None:
    settings = enforcing(tmp_path)
    settings["upstream"]["on_exit"] = "dormant"
    proxy = await serve(settings)
    await proxy.init({"session_api_keys": ["one"]})
    unused = await link(proxy)
    cookie = (await followed(proxy, await link(proxy)))[2].partition(";")[0]
    with suppress(aiohttp.ClientError):  # its answer and its end race
        await proxy.get("/api/exit?code=1", headers={"Cookie": cookie})
    await proxy.until("dormant")
    await proxy.init({"session_api_keys": ["two"]})
    assert (await proxy.get("/app", headers={"Cookie": cookie}))[0] == 401
    assert (await followed(proxy, unused))[0] == 401


async def test_without_keys_at_the_gate_the_path_is_the_upstreams(serve: Serve) -> None:
    proxy = await serve()
    await proxy.init({})
    status, body = await proxy.get("/api/init/login")
    assert (status, body["head"]) == (200, "GET /api/init/login HTTP/1.1")


@pytest.mark.parametrize(
    "place", ["//evil.example", "/\\evil.example", "https://evil.example", "x", "/a b"]
)
async def test_a_link_leads_nowhere_else(place: str, serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(enforcing(tmp_path))
    await proxy.init({"session_api_keys": ["one"]})
    status, location, _ = await followed(proxy, f"{await link(proxy)}&next={quote(place, safe='')}")
    assert (status, location) == (303, "/")


async def test_a_link_grows_old_and_gives_way() -> None:
    now = 0.0
    login = Login("", lambda: "ticket", cookie="c", now=lambda: now)

    async def made() -> str:
        nobody = make_mocked_request("POST", "/")
        answer = await login.link(lambda _request: None, nobody)
        return str(json.loads(answer.text or "")["path"])

    async def enter(path: str) -> int:
        return (await login.enter(make_mocked_request("GET", path))).status

    first, second, third, *_ = [await made() for _ in range(101)]
    assert await enter(second) == 303
    with pytest.raises(WrongKeyError):
        await enter(first)
    now = LIFETIME + 1
    with pytest.raises(WrongKeyError):
        await enter(third)


async def test_there_is_no_link_while_nobody_has_the_server() -> None:
    with pytest.raises(StateError):
        await Login("", lambda: None, cookie="c").link(
            lambda _request: None, make_mocked_request("POST", "/")
        )


async def test_the_proxys_own_paths_give_way_to_the_upstreams(serve: Serve, tmp_path: Path) -> None:
    settings = enforcing(tmp_path, prefix="/-")
    settings["gate"] = {"open_paths": ["/health"]}
    settings["upstream"]["profile"] = "openhands"
    proxy = await serve(settings)
    assert (await proxy.get("/api/init"))[0] == 503
    assert (await proxy.get("/-/ready"))[0] == 200
    async with proxy.session.get(proxy.url, headers={"Accept": "text/html"}) as answer:
        assert 'data-prefix="/-"' in await answer.text()
    async with InitClient(proxy.url + "/-/", KEY) as client:
        await client.claim({}, claim_id="one")
        assert (await client.status()).state == "ready"
    for path in ("/health", "/api/init"):
        assert (await proxy.get(path))[1]["head"] == f"GET {path} HTTP/1.1"
    await proxy.logged(lambda line: line.get("path") == "/-/api/init")


async def test_links_are_under_the_prefix_too(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(enforcing(tmp_path, prefix="/-"))
    status, _ = await proxy.request(
        "POST", "/-/api/init", json={"session_api_keys": ["one"]}, headers=POOL
    )
    assert status == 200
    path = await link(proxy, "/-")
    assert path.startswith("/-/api/init/login?token=")
    assert (await followed(proxy, path))[0] == 303
