"""schemathesis against the running proxy, by the document that the proxy makes of itself."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from proxy.control.openapi import document
from proxy.server.admin import surface_of
from proxy.settings import load_settings
from tests.harness import KEY, echo_settings

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

pytestmark = [pytest.mark.fuzz, pytest.mark.timeout(400)]

# What a schema cannot say: which request the state of the moment accepts, and which names and
# values a profile reserves. An activation that fails is answered 500 by contract; that such an
# answer is not an internal error is held by its schema.
_NOT_FOR_A_STATE_MACHINE = "positive_data_acceptance,not_a_server_error"


def described(settings: Path) -> dict[str, Any]:
    """The document without `wait`, for which a run has no time; tests/control has it."""
    spec = document(surface_of(load_settings(settings, {})))
    for path, operations in spec["paths"].items():
        if path.endswith("/api/init"):
            status = operations["get"]
            status["parameters"] = [p for p in status["parameters"] if p["name"] != "wait"]
    return spec


async def schemathesis(proxy: ProxyProcess, directory: Path) -> str:
    installed = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}"
    program = shutil.which("schemathesis", path=installed)
    assert program is not None, "needs the extra fuzz"
    spec = directory / "openapi.json"
    spec.write_text(json.dumps(described(proxy.config)))
    process = await asyncio.create_subprocess_exec(
        program, "run", str(spec),
        "--url", proxy.url, "--header", f"X-Init-API-Key: {KEY}",
        "--max-examples", os.environ.get("FUZZ_EXAMPLES", "60"), "--seed", "1",
        "--exclude-checks", _NOT_FOR_A_STATE_MACHINE, "--no-color",
        cwd=directory, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_nothing_is_found_on_a_server_that_becomes_ready(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve()
    await schemathesis(proxy, tmp_path)
    assert (await proxy.get("/health"))[0] == 200
    assert not [line for line in proxy.log if line.get("message") == "cannot answer"]


async def test_nothing_is_found_on_a_server_that_stays_dormant(
    serve: Serve, tmp_path: Path
) -> None:
    proxy = await serve(echo_settings(tmp_path, command=["/bin/false"]))
    await schemathesis(proxy, tmp_path)
    assert (await proxy.get("/api/init"))[1]["state"] == "dormant"
    assert not [line for line in proxy.log if line.get("message") == "cannot answer"]


async def test_nothing_is_found_on_a_server_with_fields_of_its_own_and_logins(
    serve: Serve, tmp_path: Path
) -> None:
    fields: dict[str, Any] = {
        "token": {"type": "secret", "env": "T", "required": True},
        "tags": {"type": "list", "env": "TAGS", "encode": "json"},
        "home": {"type": "path", "env": "H"},
        "depth": {"type": "integer", "env": "D"},
        "name": {"type": "string", "env": "N"},
    }
    settings = echo_settings(tmp_path, profile="none", mapping={"fields": fields})
    settings |= {"control": {"prefix": "/-"}, "gate": {"session_keys": "enforce"}}
    proxy = await serve(settings)
    await schemathesis(proxy, tmp_path)
    assert (await proxy.get("/-/health"))[0] == 200
    assert not [line for line in proxy.log if line.get("message") == "cannot answer"]
