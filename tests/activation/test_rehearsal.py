"""What can only start cold is started once while nobody waits for it, and leaves nothing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import elsewhere, killed
from tests.activation.native.waiting import claimable, start_of
from tests.activation.standby.standing import READY, mood, told
from tests.activation.standby.standing import settings as standing_settings
from tests.running import until_dead

if TYPE_CHECKING:
    from tests.harness import Serve

pytestmark = pytest.mark.slow

BODY: dict[str, Any] = {"token": "the-users", "conversations_path": "/of/the/user", "depth": 7}
MAPPING: dict[str, Any] = {
    "fields": {
        "token": {"type": "secret", "env": "TOKEN", "required": True, "file": "kept"},
        "conversations_path": {"env": "DATA", "required": True},
        "depth": {"type": "integer", "env": "DEPTH", "required": True},
    },
    "files": {"kept": {"path": "{run_dir}/kept.json"}},
}


def settings(directory: Path, **upstream: Any) -> dict[str, Any]:
    chosen = {"rehearsal": True, "dormancy": "cold", "mapping": MAPPING, "standby": {}}
    return standing_settings(directory, **chosen | upstream)


def starts(directory: Path) -> list[dict[str, Any]]:
    file = directory / "mood.starts"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def test_a_rehearsal_is_over_and_gone_before_the_pod_is_ready(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="leaves")
    proxy = await serve(settings(tmp_path))
    await claimable(proxy)
    (rehearsed,) = starts(tmp_path)
    assert not Path(f"/proc/{rehearsed['pid']}").exists()
    assert not Path(f"/proc/{(tmp_path / 'mood.left').read_text()}").exists()
    assert not (tmp_path / "run").exists()
    env = rehearsed["env"]
    assert env["TOKEN"].startswith("rehearsal-")
    assert env["DATA"].startswith(str(tmp_path / "run"))
    assert env["DEPTH"] == "1"
    (line,) = [line for line in proxy.log if line["message"] == "rehearsed"]
    assert line["seconds"] > 0
    assert await proxy.init(BODY) == READY
    assert (await start_of(proxy))[0] == "cold"
    about = await told(proxy)
    assert "rehearsal-" not in json.dumps(about)
    assert (about["env"]["TOKEN"], about["env"]["DEPTH"]) == ("the-users", "7")
    assert json.loads((tmp_path / "run" / "kept.json").read_text()) == {"token": "the-users"}


async def test_an_init_that_comes_meanwhile_ends_it_and_goes_on(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="choosy")
    proxy = await serve(settings(tmp_path))
    async with asyncio.timeout(30):
        while not starts(tmp_path):
            await asyncio.sleep(0.01)
    assert (await proxy.get("/ready"))[0] == 503
    assert await proxy.init(BODY) == READY
    first, second = starts(tmp_path)
    await until_dead(first["pid"])
    assert (await told(proxy))["pid"] == second["pid"]
    assert second["env"]["TOKEN"] == "the-users"
    assert not [line for line in proxy.log if line["message"] == "rehearsed"]


@pytest.mark.parametrize(
    ("boot", "error"),
    [
        ("strict", "the upstream exited with code 5 before it was ready"),
        ("choosy", "not ready within preload.timeout (2 s): "),
    ],
)
async def test_one_that_fails_costs_nobody_anything(
    serve: Serve, tmp_path: Path, boot: str, error: str
) -> None:
    mood(tmp_path, boot=boot)
    proxy = await serve(settings(tmp_path, dormancy="auto", preload={"modules": [], "timeout": 2}))
    await claimable(proxy)
    (line,) = [line for line in proxy.log if line["message"] == "cannot rehearse"]
    assert line["error"].startswith(error)
    for start in starts(tmp_path):
        await until_dead(start["pid"])
    assert await proxy.init(BODY) == READY


async def test_who_is_preloaded_has_no_need_of_it(serve: Serve, tmp_path: Path) -> None:
    proxy = await serve(settings(tmp_path, dormancy="preload", preload={"modules": ["json"]}))
    await claimable(proxy)
    assert not starts(tmp_path)
    assert await proxy.init(BODY) == READY
    assert (await start_of(proxy))[0] == "warm"


async def test_it_is_made_once_whoever_comes_after_the_first_user(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="strict")
    proxy = await serve(settings(tmp_path))
    await claimable(proxy)
    assert (await proxy.init(BODY | {"token": "another"}))[0] == 500
    await claimable(proxy)
    assert await proxy.init(BODY) == READY
    tokens = [start["env"]["TOKEN"] for start in starts(tmp_path)]
    assert tokens[1:] == ["another", "the-users"]


async def test_a_shutdown_ends_it(serve: Serve, tmp_path: Path) -> None:
    mood(tmp_path, boot="choosy")
    proxy = await serve(settings(tmp_path))
    async with asyncio.timeout(30):
        while not starts(tmp_path):
            await asyncio.sleep(0.01)
    assert await proxy.stop() == 0
    await until_dead(starts(tmp_path)[0]["pid"])
    assert not (tmp_path / "run").exists()


async def test_a_proxy_that_restarts_beside_it_takes_nobody_over(
    serve: Serve, tmp_path: Path
) -> None:
    mood(tmp_path, boot="choosy")
    async with container(tmp_path):
        proxy = await serve(settings(tmp_path, **elsewhere(tmp_path)))
        async with asyncio.timeout(30):
            while not starts(tmp_path):
                await asyncio.sleep(0.01)
        await killed(proxy)
        again = await serve(settings(tmp_path, **elsewhere(tmp_path)))
        assert await again.init(BODY) == READY
        assert (await told(again))["env"]["TOKEN"] == "the-users"
        await until_dead(starts(tmp_path)[0]["pid"])
