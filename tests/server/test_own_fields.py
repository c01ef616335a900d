"""Fields of one's own and templates, in front of a real process."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

from tests.harness import ECHO

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import ProxyProcess, Serve


async def own(serve: Serve, directory: Path) -> ProxyProcess:
    mapping: dict[str, Any] = {
        "fields": {
            "place": {"type": "path", "required": True},
            "password": {"type": "secret", "generate": True, "env": "PASSWORD"},
        },
        "variables": {"DATABASE": "db://agent:{password}@localhost/{env.DB:-main}"},
        "files": {
            "login": {
                "path": "{run_dir}/login",
                "format": "raw",
                "content": "agent:{password}\n",
                "env": "ECHO_READ_FILE",
            }
        },
    }
    return await serve(
        command=[sys.executable, str(ECHO), "--unix", "{place}/up.sock"],
        cwd="{place}",
        profile="none",
        mapping=mapping,
        url=f"http+unix://{directory}/up.sock",
    )


async def test_an_init_fills_arguments_directory_variables_and_files(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await own(serve, tmp_path)
    assert await proxy.init({}) == (
        422, {"detail": "cannot accept the init request: place: is required"},
    )  # fmt: skip
    status, answer = await proxy.init({"place": "up"})
    assert (status, answer["detail"]) == (
        422, "cannot accept the init request: place: must be an absolute path",
    )  # fmt: skip
    assert (await proxy.init({"place": str(tmp_path), "env": {"DB": "mine"}}))[0] == 200
    _, itself = await proxy.get("/api/self")
    assert itself["argv"][1:] == ["--unix", f"{tmp_path}/up.sock"]
    assert itself["cwd"] == str(tmp_path)
    _, env = await proxy.get("/api/env")
    password = env["PASSWORD"]
    assert env["DATABASE"] == f"db://agent:{password}@localhost/mine"
    assert await proxy.get("/api/file") == (200, {"text": f"agent:{password}\n"})


async def test_a_value_that_was_made_stays_over_a_restart_and_is_masked(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await own(serve, tmp_path)
    assert (await proxy.init({"place": str(tmp_path)}))[0] == 200
    _, first = await proxy.get("/api/env")
    await proxy.get(f"/api/print?line=it-is-{first['PASSWORD']}")
    await proxy.logged(lambda line: line.get("message") == "it-is-***")
    await proxy.get("/api/exit?code=3")
    details: dict[str, Any] = {"restarts": 0, "state": "ready"}
    async with asyncio.timeout(60):
        while (details["restarts"], details["state"]) != (1, "ready"):
            await asyncio.sleep(0.01)
            _, details = await proxy.get("/api/init?details=true")
    _, second = await proxy.get("/api/env")
    assert second["PASSWORD"] == first["PASSWORD"]
    assert first["PASSWORD"] not in proxy.text
