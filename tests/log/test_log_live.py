"""What a running proxy logs of its life cycle."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

import pytest

from tests.harness import KEY

if TYPE_CHECKING:
    from tests.harness import Serve

pytestmark = pytest.mark.slow


async def test_one_event_for_each_change_with_its_times(serve: Serve) -> None:
    proxy = await serve()
    assert (await proxy.init({"env": {"ECHO_EXIT": "3"}}))[0] == 500
    assert (await proxy.init())[0] == 200
    await proxy.stop()
    changes = [line for line in proxy.log if line.get("message") == "state changed"]
    assert [(line["before"], line["state"], line["cause"]) for line in changes] == [
        ("dormant", "initializing", "INIT_ACCEPTED"),
        ("initializing", "dormant", "INIT_FAILED"),
        ("dormant", "initializing", "INIT_ACCEPTED"),
        ("initializing", "ready", "UPSTREAM_READY"),
        ("ready", "draining", "DRAIN"),
    ]
    assert all(line["lasted"] >= 0 for line in changes)
    ready = changes[3]
    assert ready["attempt"] == 2
    assert {"start", "probe", "total"} <= set(ready["timings"])
    assert ready["lasted"] >= ready["timings"]["total"]


async def test_an_encoded_secret_of_the_upstream_does_not_reach_the_log(serve: Serve) -> None:
    proxy = await serve()
    secret = "users+secret/token"
    await proxy.init({"env": {"TOKEN": secret}})
    encoded = base64.b64encode(f"user:{secret}".encode()).decode()
    await proxy.get(f"/api/print?line=basic-{encoded}")
    line = await proxy.logged(lambda line: "basic-" in line.get("message", ""))
    assert "***" in line["message"]
    assert encoded[8:20] not in line["message"]
    assert KEY not in proxy.text
