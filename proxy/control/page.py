"""The waiting page: what a person sees who comes before the application is there.

One file without any other resource. Without JavaScript it asks again every few seconds; with it, it
hears of changes by the event stream of `/api/init`. Its policy, a header of the answer, allows its
own style and script by their digests and nothing else, and nobody to frame it.

Pure, but for reading `page.html` when the first person comes: most pods never see a browser.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import html
import re
from pathlib import Path
from typing import Final, NamedTuple

from proxy.lifecycle.state import State

_HTML: Final = b"text/html"
_JSON: Final = b"application/json"
_QUALITY: Final = re.compile(rb";[ \t]*q=([01](?:\.[0-9]{0,3})?)[ \t]*(?:;|$)", re.IGNORECASE)
_TITLES: Final = re.compile(r'<section id="(\w+)">\s*<h1>(.*?)</h1>')

CONTENT_TYPE: Final = "text/html; charset=utf-8"


def wants_page(method: bytes, accept: bytes | None) -> bool:
    """Whether a request is a person's navigation rather than a program's call.

    Browsers name HTML before everything else; whoever prefers JSON, or takes anything, gets JSON.
    """
    if method not in {b"GET", b"HEAD"} or accept is None:
        return False
    page, data = 0.0, 0.0
    for part in accept.split(b","):
        media = part.partition(b";")[0].strip().lower()
        found = _QUALITY.search(part)
        quality = float(found[1]) if found else 1.0
        if media == _HTML:
            page = max(page, quality)
        elif media == _JSON:
            # At equal quality the one that is named first counts.
            data = max(data, quality if page else quality + 0.0005)
    return page > 0 and page >= data


def waiting_page(state: State, error: str | None, *, deferred: bool, prefix: str = "") -> bytes:
    """The page for a state that is not ready; `deferred`: somebody has to post an init.

    `prefix` is what the proxy's own paths begin with.
    """
    page = _page()
    now = _now(state, error, deferred=deferred)
    text = html.escape(error or "", quote=True)
    made = page.make(
        now=now, title=page.titles[now], error=text, prefix=html.escape(prefix, quote=True)
    )
    return made.encode(errors="replace")


def page_headers() -> tuple[tuple[str, str], ...]:
    """What the page's answer carries besides its content type."""
    return _page().headers


def _now(state: State, error: str | None, *, deferred: bool) -> str:
    """Which section is shown; the script decides alike for what it hears later."""
    if state is State.DRAINING:
        return "closing"
    if state is State.INITIALIZING:
        return "restarting" if error else "starting"
    if error:
        return "failed"
    return "waiting" if deferred else "starting"


class _Page(NamedTuple):
    parts: tuple[str, ...]  # text and names of places, by turns
    titles: dict[str, str]
    headers: tuple[tuple[str, str], ...]

    def make(self, **values: str) -> str:
        return "".join(
            values[part] if number % 2 else part for number, part in enumerate(self.parts)
        )


@functools.cache
def _page() -> _Page:
    text = (Path(__file__).parent / "page.html").read_text()
    parts = re.split(r"\{(now|title|error|prefix)\}", text)
    headers = (
        ("Content-Security-Policy", _policy(text)),
        ("X-Content-Type-Options", "nosniff"),
        # The address may hold what is nobody else's business, the application's keys even.
        ("Referrer-Policy", "no-referrer"),
    )
    return _Page(tuple(parts), dict(_TITLES.findall(text)), headers)


def _policy(text: str) -> str:
    style, script = _digest("style", text), _digest("script", text)
    return (
        f"default-src 'none'; style-src {style}; script-src {script}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _digest(tag: str, text: str) -> str:
    """The source expression of CSP for the one element `tag`."""
    (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
