"""The example that claims a pod, against a stand-in for the Kubernetes API and a real proxy."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from tests.deploy.manifests import DEPLOY
from tests.harness import KEY, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.deploy


class Cluster:
    """Pods at 127.0.0.1; a patch counts only with the version that was read."""

    def __init__(self, directory: Path) -> None:
        self.pods: dict[str, dict[str, Any]] = {}
        self.conflicts = 0
        self.forbidden = ""  # a method that the account may not use
        self.account = directory / "account"
        self.account.mkdir()
        (self.account / "token").write_text("the-accounts-token")
        (self.account / "namespace").write_text("agents")

    def add(self, name: str, *, ready: str = "True", version: str = "7") -> None:
        labels = {"deferred-init/pool": "agents", "deferred-init/claimed": "false"}
        self.pods[name] = {
            "metadata": {"name": name, "resourceVersion": version, "labels": labels},
            "status": {
                "podIP": "127.0.0.1",
                "conditions": [{"type": "Ready", "status": ready}],
            },
        }

    async def list(self, request: web.Request) -> web.Response:
        assert request.headers["Authorization"] == "Bearer the-accounts-token"
        if self.forbidden == "GET":
            return web.json_response({"message": "you may not list"}, status=403)
        wanted = dict(pair.split("=") for pair in request.query["labelSelector"].split(","))
        found = [
            pod for pod in self.pods.values() if wanted.items() <= pod["metadata"]["labels"].items()
        ]
        return web.json_response({"items": found})

    async def patch(self, request: web.Request) -> web.Response:
        if self.forbidden == "PATCH":
            return web.json_response({"message": "you may not patch"}, status=403)
        pod = self.pods[request.match_info["name"]]
        metadata = json.loads(await request.read())["metadata"]
        if (
            pod.pop("taken", False)
            or metadata["resourceVersion"] != (pod["metadata"]["resourceVersion"])
        ):
            self.conflicts += 1
            return web.json_response({"code": 409}, status=409)
        pod["metadata"]["labels"] |= metadata["labels"]
        return web.json_response(pod)

    async def start(self) -> str:
        app = web.Application()
        path = "/api/v1/namespaces/agents/pods"
        app.add_routes([web.get(path, self.list), web.patch(path + "/{name}", self.patch)])
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()


async def claim(cluster: Cluster, api: str, port: str, init: object) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(DEPLOY / "claims" / "claim.py"), "claim-1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(
            ACCOUNT=str(cluster.account), KUBERNETES_API=api, AGENT_PORT=port, OH_SECRET_KEY=KEY
        ),
    )  # fmt: skip
    out, err = await process.communicate(json.dumps(init).encode())
    return await process.wait(), out.decode(), err.decode()


async def test_a_claim_takes_one_ready_pod_and_makes_it_the_users(
    serve: Serve, tmp_path: Path
) -> None:
    pod = await serve()
    cluster = Cluster(tmp_path)
    cluster.add("warming", ready="False")
    cluster.add("contested")
    cluster.pods["contested"]["taken"] = True  # somebody is a moment faster
    cluster.add("free")
    api = await cluster.start()
    try:
        port = pod.url.rpartition(":")[2]
        code, out, err = await claim(cluster, api, port, {"env": {"GREETING": "hello"}})
        assert (code, out.strip()) == (0, f"http://127.0.0.1:{port}"), err
        assert cluster.conflicts == 1
        claimed = cluster.pods["free"]["metadata"]["labels"]
        assert claimed["deferred-init/claimed"] == "true"
        assert claimed["deferred-init/claim"] == "claim-1"
        assert (await pod.get("/api/env"))[1]["GREETING"] == "hello"
    finally:
        await cluster.stop()


KUBECTL = """#!/bin/sh
# Answers as the columns of claim.sh are; of the two that are Ready somebody else has taken one.
case $1 in
get) printf '%s\\n' 'warming 5 127.0.0.1 False' 'lost 6 127.0.0.1 True' "$FREE 7 127.0.0.1 True" ;;
patch) [ "$3" = free ] && printf '%s' "$7" >"$TAKEN" || { echo "cannot patch $3" >&2; exit 1; } ;;
esac
"""


async def shell(directory: Path, port: str, init: object, **env: str) -> tuple[int, str, str]:
    """Run claim.sh in front of a kubectl whose last pod is `FREE`."""
    kubectl = directory / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    given = {"FREE": "free", "OH_SECRET_KEY": KEY, "TAKEN": str(directory / "taken")} | env
    process = await asyncio.create_subprocess_exec(
        "sh", str(DEPLOY / "claims" / "claim.sh"), "claim-1",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment(PATH=f"{directory}:{os.environ['PATH']}", AGENT_PORT=port, **given),
    )  # fmt: skip
    out, err = await process.communicate(json.dumps(init).encode())
    return await process.wait(), out.decode(), err.decode()


async def test_the_shells_claim_does_the_same(serve: Serve, tmp_path: Path) -> None:
    pod = await serve()
    port = pod.url.rpartition(":")[2]
    code, out, err = await shell(tmp_path, port, {"env": {"GREETING": "hello"}})
    assert (code, out.strip()) == (0, f"http://127.0.0.1:{port}"), err
    patch = json.loads((tmp_path / "taken").read_text())["metadata"]
    assert patch["resourceVersion"] == "7"
    assert patch["labels"]["deferred-init/claim"] == "claim-1"
    assert (await pod.get("/api/env"))[1]["GREETING"] == "hello"


async def test_an_empty_pool_is_said(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path)
    cluster.add("warming", ready="False")
    api = await cluster.start()
    try:
        code, _, err = await claim(cluster, api, "1", {})
        assert code == 1
        assert "no warm pod" in err
    finally:
        await cluster.stop()


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("GET", "cannot list pods: you may not list\n"),
        ("PATCH", "cannot take a: you may not patch\n"),
    ],
)
async def test_a_permission_that_is_missing_is_no_empty_pool(
    method: str, words: str, tmp_path: Path
) -> None:
    cluster = Cluster(tmp_path)
    cluster.add("a")
    cluster.forbidden = method
    api = await cluster.start()
    try:
        assert await claim(cluster, api, "1", {}) == (1, "", words)
    finally:
        await cluster.stop()


async def test_the_shell_says_why_it_has_no_pod(tmp_path: Path) -> None:
    code, _, err = await shell(tmp_path, "1", {}, FREE="other")
    assert code == 1
    assert err == "cannot patch other\nno warm pod is left\n"


async def test_the_shell_says_why_the_pod_did_not_become_ready(
    serve: Serve, tmp_path: Path
) -> None:
    pod = await serve()
    code, out, err = await shell(tmp_path, pod.url.rpartition(":")[2], {"nothing": "known"})
    assert (code, out) == (1, "")
    assert "nothing: unknown field" in err


async def test_a_key_that_is_missing_is_said_before_a_pod_is_taken(tmp_path: Path) -> None:
    code, _, err = await shell(tmp_path, "1", {}, OH_SECRET_KEY="")
    assert (code, err) == (2, "usage: OH_SECRET_KEY=... claim.sh CLAIM_ID < init.json\n")
    assert not (tmp_path / "taken").exists()
