"""Session keys asked for at the gate, for upstreams that ask for none themselves."""

from __future__ import annotations

import base64
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import InitRequest
from proxy.lifecycle.gate import Verdict
from proxy.lifecycle.plan import build_plan
from proxy.relay.exchange.sessionkeys import SessionKeys
from proxy.relay.http.reader import HeadReader
from proxy.settings import LimitSettings, UpstreamSettings
from tests.harness import echo_settings
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import get, message, pair
from tests.running import DORMANT, READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve


def basic(credentials: bytes) -> bytes:
    return b"Authorization: Basic " + base64.b64encode(credentials)


KEYS = SessionKeys(["first", "second key+/=", "ключ"], parameter="key")
UPGRADE = (b"Connection: Upgrade", b"Upgrade: websocket")


def admitted(
    target: bytes, *fields: bytes, keys: SessionKeys = KEYS, method: bytes = b"GET"
) -> bool:
    lines = method + b" " + target + b" HTTP/1.1", b"Host: a", *fields
    head = HeadReader(LimitSettings()).read(message(*lines))
    assert head is not None
    return keys.admits(head)


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (b"/", (b"X-Session-API-Key: first",)),
        (b"/", (b"x-session-api-key:\tsecond key+/= ",)),
        (b"/", ("X-Session-API-Key: ключ".encode(),)),
        (b"/s?session_api_key=first", UPGRADE),
        (b"/s?a=b&session_api_key=second%20key%2B%2f=&c", UPGRADE),
        (b"/s?session_api_key=second+key%2b/%3D", UPGRADE),
        (b"/", (b"Cookie: a=b; oh_workspace_session_key=first; c=d",)),
        (b"/", (b"Cookie: a=b", b'cookie: oh_workspace_session_key="second key+/="')),
        (b"/", (b"Cookie: oh_workspace_session_key=first", b"Sec-Fetch-Site: same-origin")),
        (b"/", (b"X-API-Key: first",)),
        (b"/", (b"Authorization: Bearer first",)),
        (b"/", (b"authorization:bearer  first ",)),
        (b"/", (basic(b"anybody:second key+/="),)),
        (b"/", (basic(b"first"),)),
        (b"/", (basic(b"first:"),)),
        (b"/s?key=first", ()),
        (b"/s?a=b&k%65y=second+key%2b/%3D", ()),
        (b"/", (b"X-Session-API-Key: wrong", b"Cookie: oh_workspace_session_key=first")),
    ],
)
def test_a_key_is_taken_where_clients_put_it(target: bytes, fields: tuple[bytes, ...]) -> None:
    assert admitted(target, *fields)
    assert not admitted(target, *fields, keys=SessionKeys(["other"]))
    assert not admitted(target, *fields, keys=SessionKeys())


@pytest.mark.parametrize(
    ("target", "fields"),
    [
        (b"/", ()),
        (b"/", (b"X-Session-API-Key:",)),
        (b"/", (b"X-Session-API-Key: firs",)),
        (b"/", (b"X-Session-API-Key: first2",)),
        (b"/", (b"X-Session-API-Key: FIRST",)),
        (b"/", (b"X-Session-API-Key: first", b"X-Session-API-Key: first")),
        (b"/", (b"X_Session_API_Key: first",)),
        (b"/", (b"Authorization: token first",)),
        (b"/", (b"Authorization: Bearer", b"A: first")),
        (b"/", (b"Authorization: Bearer first", b"Authorization: Bearer first")),
        (b"/", (basic(b"first:wrong"),)),
        (b"/", (b"Authorization: Basic first",)),
        (b"/", (basic(b"u:first"), b"Sec-Fetch-Site: cross-site")),
        (b"/", (b"X-API-Key: first", b"X-API-Key: first")),
        (b"/s?key=first&key=first", ()),
        (b"/s?session_api_key=first", ()),  # no handshake
        (b"/s?session_api_key=first&session_api_key=wrong", UPGRADE),
        (b"/s?Session_Api_Key=first", UPGRADE),
        (b"/", (b"Cookie: oh_workspace_session_key=first", b"Sec-Fetch-Site: cross-site")),
        (b"/", (b"Cookie: xoh_workspace_session_key=first",)),
        (b"/", (b"Cookie: oh_workspace_session_key=first; oh_workspace_session_key=x",)),
        (b"/", (b"A: X-Session-API-Key: first",)),
    ],
)
def test_nothing_else_is_a_key(target: bytes, fields: tuple[bytes, ...]) -> None:
    assert not admitted(target, *fields)


COOKIE = b"Cookie: oh_workspace_session_key=first"


@pytest.mark.parametrize(
    ("page", "reads", "changes"),
    [
        ((), True, True),  # no browser
        ((b"Sec-Fetch-Site: same-origin",), True, True),
        ((b"Sec-Fetch-Site: same-origin", b"Origin: http://a"), True, True),
        ((b"Sec-Fetch-Site: none",), True, False),
        ((b"Sec-Fetch-Site: same-site",), True, False),
        ((b"Sec-Fetch-Site: same-site", b"Origin: http://a"), True, False),
        ((b"Sec-Fetch-Site: same-origin", b"Sec-Fetch-Site: same-site"), True, False),
        ((b"Sec-Fetch-Site: cross-site",), False, False),
        ((b"Origin: http://a",), True, True),
        ((b"Origin: HTTPS://A",), True, True),
        ((b"Origin: http://sibling.a",), True, False),
        ((b"Origin: http://a:81",), True, False),
        ((b"Origin: null",), True, False),
        ((b"Origin: http://a", b"Origin: http://b"), True, False),
    ],
)
def test_cookie_changes_something_for_a_page_of_its_own_origin_only(
    page: tuple[bytes, ...], *, reads: bool, changes: bool
) -> None:
    for method in (b"GET", b"HEAD"):
        assert admitted(b"/", COOKIE, *page, method=method) == reads
    for method in (b"POST", b"PUT", b"PATCH", b"DELETE", b"get", b"X"):
        assert admitted(b"/", COOKIE, *page, method=method) == changes
    assert admitted(b"/socket", COOKIE, *page, *UPGRADE) == changes
    assert admitted(b"/", b"X-Session-API-Key: first", *page, method=b"POST")


PREFLIGHT = (b"Origin: https://app.example", b"Access-Control-Request-Method: POST")


def asked(method: bytes, *fields: bytes) -> bool:
    """Whether a request is admitted; nothing in it is a key."""
    head = HeadReader(LimitSettings()).read(get(b"/api/x", *fields).replace(b"GET", method, 1))
    assert head is not None
    return KEYS.admits(head)


def test_a_preflight_needs_no_key_and_cannot_have_one() -> None:
    assert asked(b"OPTIONS", *PREFLIGHT)
    assert asked(b"OPTIONS", *PREFLIGHT, b"Access-Control-Request-Headers: x-session-api-key")


@pytest.mark.parametrize(
    ("method", "fields"),
    [
        (b"GET", PREFLIGHT),
        (b"POST", PREFLIGHT),
        (b"options", PREFLIGHT),
        (b"OPTIONS", PREFLIGHT[:1]),
        (b"OPTIONS", PREFLIGHT[1:]),
        (b"OPTIONS", (*PREFLIGHT, b"Content-Length: 2")),
        (b"OPTIONS", (*PREFLIGHT, b"Transfer-Encoding: chunked")),
        (b"OPTIONS", (*PREFLIGHT, *UPGRADE)),
        (b"OPTIONS", ()),
    ],
)
def test_what_only_looks_like_a_preflight_needs_a_key(
    method: bytes, fields: tuple[bytes, ...]
) -> None:
    assert not asked(method, *fields)


def test_keys_are_not_shown() -> None:
    assert repr(KEYS) == "<SessionKeys 3>"


@both_loops
async def test_without_a_key_nothing_reaches_the_upstream() -> None:
    async with pair(admits=KEYS.admits) as p:
        client = await p.sent(get(b"/1"))
        head, body = await client.response()
        assert head.startswith(b"HTTP/1.1 401 ")
        assert b'"detail"' in body
        socket = await p.sent(get(b"/socket", *UPGRADE))
        assert (await socket.rest()).startswith(b"HTTP/1.1 401 ")
        assert p.accepted.empty()
        await client.send(get(b"/2", b"X-Session-API-Key: first"))  # the connection is kept
        assert b"\r\nX-Session-API-Key: first\r\n" in await (await p.accept()).head()
        assert (await (await p.sent(get(b"/ready"))).head()).startswith(b"HTTP/1.1 200 ")


@both_loops
async def test_without_a_key_nobody_is_held() -> None:
    async with pair(admits=KEYS.admits, hold=60) as p:
        p.verdict = Verdict.HOLD
        client = await p.sent(get(b"/1"))
        assert (await client.head()).startswith(b"HTTP/1.1 401 ")


@both_loops
async def test_the_header_is_stripped_if_so_configured() -> None:
    async with pair(strip_session_keys=True) as p:
        fields = b"X-Session-API-Key: first", b"x_session_api_key: 2", b"A: b"
        _, _, head = await p.exchange(get(b"/", *fields))
        assert head.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nX-Forwarded-For:")
        named = b"Connection: X-Session-API-Key"
        _, _, head = await p.exchange(get(b"/", named, *fields))
        assert head.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\nX-Forwarded-For:")


@both_loops
async def test_whatever_header_has_the_key_is_stripped_if_so_configured() -> None:
    keys = SessionKeys(["first"], strips=True)
    async with pair(admits=keys.admits) as p:
        ours, theirs = b"Authorization: Bearer first", b"X-API-Key: of the model"
        for _ in range(2):  # the second time it is a head that was read before
            _, _, head = await p.exchange(get(b"/", ours, theirs))
            assert head.startswith(b"GET / HTTP/1.1\r\nHost: a\r\nX-API-Key: of the model\r\n")
            assert b"first" not in head


def test_session_keys_are_accepted_for_an_upstream_that_has_no_place_for_them() -> None:
    upstream = UpstreamSettings(profile="none")
    request = InitRequest.model_validate({"session_api_keys": ["session-key"]})
    with pytest.raises(InvalidFieldError, match="not mapped"):
        build_plan(upstream, request, run_dir="/run/x")
    plan = build_plan(upstream, request, run_dir="/run/x", keys_at_gate=True)
    assert plan.session_keys == ("session-key",)
    assert "session-key" in plan.secrets
    assert plan.env == {}
    assert "session-key" not in repr(plan)


def enforcing(tmp_path: Path, **upstream: Any) -> dict[str, Any]:
    settings = echo_settings(tmp_path, profile="none", **upstream)
    settings["gate"] = {"session_keys": "enforce", "strip_session_keys": True}
    return settings


async def status(proxy: ProxyProcess, key: str | None) -> int:
    headers = {} if key is None else {"X-Session-API-Key": key}
    return (await proxy.get("/api/x", headers=headers))[0]


async def test_delivered_keys_open_the_gate_until_they_are_undone(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(enforcing(tmp_path, on_exit="dormant"))
    assert await status(proxy, "one") == 503
    assert await proxy.init({"session_api_keys": ["one", "two"]}) == (200, READY)
    assert [await status(proxy, key) for key in ("one", "two", "three", "", None)] == [
        200, 200, 401, 401, 401,
    ]  # fmt: skip
    with suppress(aiohttp.ClientError):  # its answer and its end race
        await proxy.get("/api/exit?code=1", headers={"X-Session-API-Key": "one"})
    await proxy.until("dormant")
    assert (await proxy.init({"session_api_keys": ["three"]}))[0] == 200
    assert [await status(proxy, key) for key in ("one", "three")] == [401, 200]
    assert "three" not in proxy.text


async def test_without_delivered_keys_nobody_passes(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(enforcing(tmp_path))
    assert await proxy.get("/api/init") == (200, DORMANT)
    assert await proxy.init({}) == (200, READY)
    assert [await status(proxy, key) for key in ("", None)] == [401, 401]


async def test_a_preflight_reaches_the_upstream_once_it_is_ready(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(enforcing(tmp_path))
    preflight = {"Origin": "https://app.example", "Access-Control-Request-Method": "POST"}

    async def ask() -> int:
        url = proxy.url + "/api/x"
        async with proxy.session.options(url, headers=preflight) as answer:
            return answer.status

    assert await ask() == 503
    assert (await proxy.init({"session_api_keys": ["one"]}))[0] == 200
    assert (await ask(), await status(proxy, None)) == (501, 401)  # 501: the upstream's own word


async def test_an_open_path_needs_no_key_in_any_state(serve: Serve, tmp_path: Path) -> None:
    settings = enforcing(tmp_path)
    settings["gate"]["open_paths"] = ["/version"]
    proxy = await serve(settings)

    async def ask(path: str) -> int:
        return (await proxy.get(path))[0]

    assert await ask("/version") == 502  # relayed; nothing runs there yet
    assert (await proxy.init({"session_api_keys": ["one"]}))[0] == 200
    assert [await ask(path) for path in ("/version", "/version?x=1")] == [200, 200]
    assert [await ask(path) for path in ("/version/", "//version", "/%76ersion")] == [401] * 3
