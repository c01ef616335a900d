"""Who gets the waiting page, and what is in it; how it behaves is tests/browser's affair."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING

import pytest

from proxy.control.page import page_headers, waiting_page, wants_page
from proxy.lifecycle.state import State

if TYPE_CHECKING:
    from tests.harness import Serve

CHROMIUM = (
    b"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,"
    b"*/*;q=0.8,application/signed-exchange;v=b3;q=0.7"
)


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (CHROMIUM, True),
        (b"text/html", True),
        (b"TEXT/HTML ; charset=utf-8", True),
        (b"text/html, application/json", True),
        (b"application/json, text/html", False),
        (b"application/json;q=0.5, text/html", True),
        (b"text/html;q=0.2, application/json;q=0.9", False),
        (b"text/html;q=0", False),
        (b"application/json", False),
        (b"*/*", False),
        (b"text/event-stream", False),
        (b"text/htmlx", False),
        (b"\xff,;q=,,", False),
        (b"", False),
        (None, False),
    ],
)
def test_a_page_is_for_those_who_prefer_html(accept: bytes | None, *, page: bool) -> None:
    assert wants_page(b"GET", accept) is page
    assert not wants_page(b"POST", accept)


@pytest.mark.parametrize(
    ("state", "error", "deferred", "title"),
    [
        (State.WARMING, None, True, "Waiting to be set up"),
        (State.DORMANT, None, True, "Waiting to be set up"),
        (State.DORMANT, "boom", True, "Your application could not be started"),
        (State.INITIALIZING, None, True, "Starting your application"),
        (State.INITIALIZING, "died", True, "Starting your application again"),
        (State.DORMANT, None, False, "Starting your application"),
        (State.DRAINING, None, True, "This server is shutting down"),
    ],
)
def test_each_state_has_its_words(
    state: State, error: str | None, title: str, *, deferred: bool
) -> None:
    page = waiting_page(state, error, deferred=deferred).decode()
    assert f"<title>{title}</title>" in page
    now = re.findall(r'data-now="(\w+)"', page)
    assert len(now) == 1
    assert f'<section id="{now[0]}">\n<h1>{title}</h1>' in page
    assert (error or "") in page


def test_an_error_cannot_become_markup() -> None:
    error = "</pre><script>alert(1)</script>{title}\ud800"
    page = waiting_page(State.DORMANT, error, deferred=True).decode()
    assert "</pre><script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;{title}?" in page


def test_the_policy_allows_its_own_style_and_script_and_nothing_else() -> None:
    page = waiting_page(State.DORMANT, None, deferred=True).decode()
    policy = dict(page_headers())["Content-Security-Policy"]
    for tag in ("style", "script"):
        content = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)[0]
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert not re.findall(r'(?:src|href)="(?!data:,)', page)
    assert len(page.encode()) < 10_000


async def test_a_browser_gets_the_page_and_a_program_gets_json(serve: Serve) -> None:
    proxy = await serve()
    for accept, kind in ((CHROMIUM.decode(), "text/html"), ("*/*", "application/json")):
        headers = {"Accept": accept}
        async with proxy.session.get(proxy.url + "/app", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (503, kind)
            assert int(answer.headers["Retry-After"]) > 0
            assert answer.headers["Cache-Control"] == "no-store"
            policy = answer.headers.get("Content-Security-Policy", "")
            assert ("frame-ancestors 'none'" in policy) is (kind == "text/html")
        async with proxy.session.post(proxy.url + "/app", headers=headers) as answer:
            assert (answer.status, answer.content_type) == (503, "application/json")
    async with proxy.session.head(
        proxy.url + "/app", headers={"Accept": CHROMIUM.decode()}
    ) as answer:
        assert (answer.status, answer.content_type) == (503, "text/html")
        assert int(answer.headers["Content-Length"]) > 1000
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "no-referrer"
