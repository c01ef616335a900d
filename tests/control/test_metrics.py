"""The numbers that operators see, from a real proxy's admin listener."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import TYPE_CHECKING

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.harness import ROOT, clean_environment, echo_settings
from tests.running import READY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow

Numbers = dict[tuple[str, tuple[tuple[str, str], ...]], float]


async def scrape(tmp_path: Path) -> Numbers:
    connector = aiohttp.UnixConnector(str(tmp_path / "admin.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://admin/metrics") as answer,
    ):
        assert answer.status == 200
        assert answer.content_type == "text/plain"
        text = await answer.text()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(numbers: Numbers, name: str, **labels: str) -> float:
    return numbers[f"deferred_init_{name}", tuple(sorted(labels.items()))]


async def started(serve: Serve, tmp_path: Path) -> ProxyProcess:
    settings = echo_settings(tmp_path)
    settings["listen"]["admin"] = f"unix:{tmp_path / 'admin.sock'}"
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("message") == "admin listening")
    return proxy


async def test_numbers_follow_the_life_cycle(serve: Serve, tmp_path: Path) -> None:
    proxy = await started(serve, tmp_path)
    numbers = await scrape(tmp_path)
    assert of(numbers, "state", deferred_init_state="dormant") == 1
    assert of(numbers, "state", deferred_init_state="ready") == 0
    assert (await proxy.init({"env": {"ECHO_EXIT": "3"}}))[0] == 500
    assert await proxy.init({}) == (200, READY)
    numbers = await scrape(tmp_path)
    assert of(numbers, "state", deferred_init_state="ready") == 1
    assert of(numbers, "activations_total", outcome="ready", start="cold") == 1
    assert (
        sum(
            value
            for (name, labels), value in numbers.items()
            if name == "deferred_init_activations_total" and ("outcome", "failed") in labels
        )
        == 1
    )
    assert of(numbers, "dormant_seconds_count") == 2
    for phase in ("start", "probe", "total"):
        assert of(numbers, "activation_phase_seconds_count", phase=phase) == 1
    os.kill((await proxy.get("/api/self"))[1]["pid"], signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    await proxy.until("ready")
    numbers = await scrape(tmp_path)
    assert of(numbers, "upstream_exits_total", code="137") == 1
    assert of(numbers, "upstream_restarts_total") == 1
    assert ("process_resident_memory_bytes", ()) in numbers


async def test_relay_is_counted(serve: Serve, tmp_path: Path) -> None:
    proxy = await started(serve, tmp_path)
    await proxy.init({})
    before = await scrape(tmp_path)
    for _ in range(5):
        await proxy.request("POST", "/api/x", data=b"x" * 1000)
    after = await scrape(tmp_path)
    posts = {"source": "upstream", "method": "POST", "status": "2xx"}
    assert of(after, "relay_requests_total", **posts) == 5
    assert of(after, "relay_first_byte_seconds_count") == 5
    assert of(after, "relay_request_seconds_bucket", le="+Inf") == 5
    assert of(after, "relay_connections_total") == of(before, "relay_connections_total") + 5
    grown = of(after, "relay_bytes_total", direction="in") - of(
        before, "relay_bytes_total", direction="in"
    )
    assert grown > 5000


async def test_refusals_are_counted_by_reason(serve: Serve, tmp_path: Path) -> None:
    proxy = await started(serve, tmp_path)
    for _ in range(2):
        assert (await proxy.get("/early"))[0] == 503
    assert (await proxy.get("/late", headers={"Host": "not a host"}))[0] == 400
    numbers = await scrape(tmp_path)
    assert of(numbers, "relay_refusals_total", reason="not_ready") == 2
    assert of(numbers, "relay_refusals_total", reason="bad_request") == 1
    assert of(numbers, "relay_refusals_total", reason="upstream") == 0
    assert of(numbers, "relay_held_requests") == 0


async def test_no_label_is_a_clients_to_choose(serve: Serve, tmp_path: Path) -> None:
    proxy = await started(serve, tmp_path)
    await proxy.init({})
    seen = []
    for method, path in (("FROB", "/api/a"), ("NICATE", "/api/b"), ("BREW", "/elsewhere")):
        async with proxy.session.request(
            method, proxy.url + path, headers={"Host": "chosen.example"}
        ) as answer:
            assert answer.status == 501  # the upstream's own opinion
        seen.append(set(await scrape(tmp_path)))
    assert seen[0] == seen[1] == seen[2]


async def test_admin_address_that_is_taken_is_an_error_when_it_was_chosen(
    serve: Serve, tmp_path: Path
) -> None:
    await started(serve, tmp_path)
    second = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", "serve", "--config", str(tmp_path / "proxy.yaml"),
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=clean_environment(),
    )  # fmt: skip
    _, errors = await second.communicate()
    assert b"cannot listen on unix:" in errors
    assert second.returncode == 1
