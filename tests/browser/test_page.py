"""The waiting page in a real browser: what a person sees, from dormant to the application."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Tab, tab
from tests.harness import echo_settings
from tests.server.test_shutdown import slow_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.harness import Serve

pytestmark = pytest.mark.browser

# A directory to keep screenshots in, to look at.
SHOTS = os.environ.get("SCREENSHOTS")


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Tab]:
    async with tab(tmp_path) as opened:
        yield opened


async def shot(browser: Tab, name: str) -> None:
    if SHOTS:
        await browser.screenshot(Path(SHOTS) / f"{name}.png")


async def test_from_early_to_the_application(browser: Tab, serve: Serve) -> None:
    proxy = await serve()
    await browser.go(proxy.url + "/app?x=1#part")
    assert await browser.heading() == "Waiting to be set up"
    await shot(browser, "waiting")
    assert await browser.violations() == []
    assert (await proxy.init())[0] == 200
    await browser.until("document.body.textContent.includes('GET /app?x=1 ')", wanted=True)
    assert await browser.evaluate("location.hash") == "#part"
    assert not [text for text in browser.messages if "Content Security" in text]


async def test_nobody_can_frame_it(browser: Tab, serve: Serve) -> None:
    proxy = await serve()
    await browser.go(proxy.url + "/health")
    frame = "Object.assign(document.createElement('iframe'), {src: '/app', onload: () => "
    done = "document.title = document.querySelector('iframe').contentDocument ? 'framed' : 'no'"
    await browser.evaluate(f"document.body.append({frame}{done}}}))")
    await browser.until("document.title", "no")  # an error page has an origin of its own


async def test_every_state_in_words_and_without_a_fault_in_accessibility(
    browser: Tab, serve: Serve
) -> None:
    proxy = await serve()
    await browser.go(proxy.url + "/")
    running = asyncio.create_task(proxy.init({"env": {"ECHO_NEVER_READY": "1"}}))
    await browser.until("document.title", "Starting your application")
    await browser.until("document.documentElement.dataset.step", "probe")
    for dark in (False, True):
        await browser.look(dark=dark, reduced=dark)
        assert await browser.heading() == "Starting your application"
        assert await browser.violations() == []
        await shot(browser, f"starting-{'dark' if dark else 'light'}")
    await proxy.stop()
    assert (await running)[0] == 503
    await browser.until("document.title", "The connection was lost")
    assert await browser.violations() == []
    await shot(browser, "lost")


async def test_a_failure_says_what_to_do_and_ends_when_it_is_mended(
    browser: Tab, serve: Serve
) -> None:
    proxy = await serve()
    await proxy.init({"env": {"ECHO_EXIT": "4"}})
    await browser.go(proxy.url + "/")
    assert await browser.heading() == "Your application could not be started"
    assert await browser.evaluate("document.title") == "Your application could not be started"
    assert "exited with code 4" in await browser.evaluate("error.textContent")
    await browser.evaluate("document.querySelector('details').open = true")
    for dark in (False, True):
        await browser.look(dark=dark)
        assert await browser.violations() == []
        await shot(browser, f"failed-{'dark' if dark else 'light'}")
    await proxy.init()
    await browser.until("document.body.textContent.includes('GET / ')", wanted=True)


async def test_an_error_is_text_whatever_it_contains(browser: Tab, serve: Serve) -> None:
    words = "/nonexistent/<script>document.title = 'owned'</script>&amp;'\"<b>"
    proxy = await serve(command=[words])
    await browser.go(proxy.url + "/")
    for _ in range(2):  # told by the stream, then as part of the page
        await proxy.init()
        await browser.until("document.title", "Your application could not be started")
        assert words in await browser.evaluate("error.textContent")
        await browser.go(proxy.url + "/again")


async def test_a_shutdown_is_said_and_does_not_make_the_page_restless(
    browser: Tab, serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve()
    await proxy.init()
    slow, gate = await slow_request(proxy, tmp_path)
    proxy.process.terminate()
    await proxy.logged(lambda line: line.get("state") == "draining")
    await browser.go(proxy.url + "/")
    assert await browser.heading() == "This server is shutting down"
    assert await browser.violations() == []
    await shot(browser, "closing")
    before = browser.loads
    await asyncio.sleep(1.5)  # it would ask again within one second
    assert browser.loads == before
    gate.touch()
    assert (await slow)[0] == 200


async def test_without_javascript_it_asks_again_by_itself(browser: Tab, serve: Serve) -> None:
    proxy = await serve()
    await browser.call("Emulation.setScriptExecutionDisabled", value=True)
    await browser.go(proxy.url + "/")
    before = browser.loads
    assert await browser.heading() == "Waiting to be set up"
    await proxy.init()
    async with asyncio.timeout(20):
        while browser.loads == before:
            await asyncio.sleep(0.02)
    await browser.until("document.body.textContent.includes('GET / ')", wanted=True)


async def test_without_a_deferred_init_it_asks_again_by_itself(
    browser: Tab, serve: Serve, tmp_path: Path
) -> None:
    settings = echo_settings(tmp_path, env={"ECHO_NEVER_READY": "1"})
    settings["deferred_init"] = False
    proxy = await serve(settings)
    await browser.go(proxy.url + "/")
    assert await browser.heading() == "Starting your application"
    before = browser.loads
    async with asyncio.timeout(20):
        while browser.loads == before:
            await asyncio.sleep(0.02)
