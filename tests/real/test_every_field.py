"""Every field of the init request takes effect in the oldest release, one between and the newest.

The pods are baked as badly as they may be: session keys, origins and webhooks of somebody else in
the container's environment and in the server's own configuration file.
"""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from tests.harness import KEY
from tests.real.pods import (
    MODEL_KEY,
    SESSION_KEY,
    Pod,
    decrypted,
    dormant_pod,
    encrypted,
    interpreter,
)
from tests.real.provider import HOLD

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.real.provider import Provider
    from tests.real.receiver import Receiver

SECOND_KEY = "second-session-key"
SECRET_KEY = "encryption-key-of-the-user"
OLDER_KEY = "encryption-key-before-that"
ORIGIN = "https://app.test"
TELEMETRY_TOKEN = "token-of-the-telemetry"
WEBHOOK_HEADER = "header-of-the-webhook"

BAKED = {
    "SESSION_API_KEY": "baked-0",
    "OH_SESSION_API_KEYS_0": "baked-1",
    "OH_SESSION_API_KEYS_1": "baked-2",
    "OH_SESSION_API_KEYS_2": "baked-3",
    "OH_ALLOW_CORS_ORIGINS_0": "https://baked.test",
    "OH_ALLOW_CORS_ORIGINS_1": "https://baked.test",
    "OH_CONVERSATIONS_PATH": "/nonexistent/baked",
    "OH_MAX_CONCURRENT_RUNS": "7",
}

NATIVE = "newest, native"

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]
in_all = pytest.mark.parametrize("pod", [NATIVE, "newest", "1.20.1", "1.0.0"], indirect=True)
started_anew = pytest.mark.parametrize("pod", ["newest", "1.20.1", "1.0.0"], indirect=True)
since_1_20 = pytest.mark.parametrize("pod", [NATIVE, "newest", "1.20.1"], indirect=True)
in_newest = pytest.mark.parametrize("pod", [NATIVE, "newest"], indirect=True)
in_oldest = pytest.mark.parametrize("pod", ["1.0.0"], indirect=True)


def everything(root: Path, receiver: Receiver) -> dict[str, Any]:
    return {
        "session_api_keys": [SESSION_KEY, SECOND_KEY],
        "secret_key": SECRET_KEY,
        "previous_secret_keys": [OLDER_KEY],
        "conversations_path": str(root / "mount" / "conversations"),
        "bash_events_dir": str(root / "mount" / "bash"),
        "conversation_worktree_root": str(root / "mount" / "worktrees"),
        "env": {"LLM_API_KEY": MODEL_KEY, "OH_TELEMETRY_CONSENT": "granted", "MULTI": "a\n b'\""},
        "webhooks": [
            {
                "base_url": f"{receiver.url}/hook",
                "headers": {"X-Hook": WEBHOOK_HEADER},
                "event_buffer_size": 1,
                "flush_delay": 0.1,
            }
        ],
        "web_url": "https://app.test/runtime/7",
        "allow_cors_origins": [ORIGIN],
        "max_concurrent_runs": 1,
        "telemetry": {
            "exporter": "http",
            "http_endpoint": f"{receiver.url}/telemetry",
            "http_token": TELEMETRY_TOKEN,
            "flush_delay": 0.1,
        },
    }


def bake(version: str, root: Path, receiver: Receiver) -> None:
    """What a deployment may have put into the image, and what an earlier life has left."""
    (root / "work" / "workspace").mkdir(parents=True)
    config = {
        "allow_cors_origin_regex": r"https://.*\.deployed\.test",
        "session_api_keys": ["baked-4", "baked-5", "baked-6"],
        "webhooks": [{"base_url": f"{receiver.url}/baked"}, {"base_url": f"{receiver.url}/baked"}],
        "deferred_init": True,
    }
    file = root / "work" / "workspace" / "openhands_agent_server_config.json"
    file.write_text(json.dumps(config))
    (root / "persistence").mkdir()
    token = encrypted(version, "kept from before", OLDER_KEY)
    secrets = {"custom_secrets": {"OLD": {"name": "OLD", "secret": token, "description": None}}}
    (root / "persistence" / "secrets.json").write_text(json.dumps(secrets))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    receiver: Receiver,
) -> AsyncIterator[Pod]:
    version, _, native = request.param.partition(", ")
    root = tmp_path_factory.mktemp("pod")
    bake(version, root, receiver)
    inherited = BAKED | {"OH_WEBHOOKS_0_BASE_URL": f"{receiver.url}/baked"}
    body = everything(root, receiver)
    how: dict[str, Any] = {"inherited": inherited}
    if native:
        # What its own init cannot express would have it started anew.
        del body["allow_cors_origins"]
        consent = body["env"].pop("OH_TELEMETRY_CONSENT")
        how = {"dormancy": "native", "env": {"OH_TELEMETRY_CONSENT": consent}}
    async with dormant_pod(version, root, **how) as pod:
        answer = await pod.proxy.init(body)
        assert answer == (200, {"state": "ready", "error": None})
        assert (await pod.start())["kind"] == ("native" if native else "cold")
        yield pod


@in_all
async def test_life_cycle(pod: Pod) -> None:
    pod.assert_it_was_dormant()
    assert await pod.proxy.get("/api/init") == (200, {"state": "ready", "error": None})
    assert (await pod.proxy.get("/health"))[0] == 200
    assert (await pod.proxy.get("/ready"))[0] == 200
    assert (await pod.proxy.init({}))[0] == 400


@in_all
async def test_session_api_keys(pod: Pod) -> None:
    for key in (None, "wrong", "", KEY, SECRET_KEY, *(f"baked-{i}" for i in range(7))):
        assert await pod.status("/api/conversations/count", key=key) == 401, key
    for key in (SESSION_KEY, SECOND_KEY):
        assert await pod.status("/api/conversations/count", key=key) == 200


@in_all
async def test_env(pod: Pod) -> None:
    assert await pod.run('printf %s "$LLM_API_KEY"') == MODEL_KEY
    assert await pod.run('printf %s "$MULTI"') == "a\n b'\""


@started_anew
async def test_the_bootstrap_key_and_baked_variables_are_not_in_the_upstream(pod: Pod) -> None:
    environment = await pod.environment()
    assert KEY not in environment.values()
    assert "OH_DEFERRED_INIT" not in environment
    assert environment["OH_SECRET_KEY"] == SECRET_KEY
    assert not [name for name, value in environment.items() if "baked" in value]


@in_all
async def test_conversations_path(pod: Pod, provider: Provider) -> None:
    conversation = await pod.start_conversation(provider)
    await pod.over(conversation)
    kept = pod.root / "mount" / "conversations" / conversation.replace("-", "")
    assert list((kept / "events").glob("event-*.json"))


@in_all
async def test_bash_events_dir(pod: Pod) -> None:
    await pod.run("true")
    assert list((pod.root / "mount" / "bash").glob("*BashCommand*"))
    assert not list((pod.root / "work").rglob("*BashCommand*"))


@in_all
async def test_webhooks(pod: Pod, provider: Provider, receiver: Receiver) -> None:
    conversation = await pod.start_conversation(provider)
    told = await receiver.until(
        lambda posted: (
            posted.path.startswith("/hook/events") and conversation.replace("-", "") in posted.path
        )
    )
    assert told.headers["X-Hook"] == WEBHOOK_HEADER
    await pod.over(conversation)
    assert not [posted for posted in receiver.posted if posted.path.startswith("/baked")]


async def allowed_origin(pod: Pod, origin: str) -> bool:
    headers = {"Origin": origin, "Access-Control-Request-Method": "GET"}
    url = pod.proxy.url + "/api/conversations/count"
    async with pod.proxy.session.options(url, headers=headers) as answer:
        return answer.headers.get("Access-Control-Allow-Origin") == origin


@started_anew
async def test_allow_cors_origins(pod: Pod) -> None:
    assert await allowed_origin(pod, ORIGIN)
    assert not await allowed_origin(pod, "https://baked.test")


@in_newest
async def test_the_deployments_own_configuration_file_stays_in_force(pod: Pod) -> None:
    assert await allowed_origin(pod, "https://a.deployed.test")


@since_1_20
async def test_secret_key(pod: Pod) -> None:
    secret = {"name": "FRESH", "value": "plain text"}
    await pod.api("PUT", "/api/settings/secrets", json=secret)
    assert decrypted(pod.version, stored_secret(pod, "FRESH"), SECRET_KEY) == "plain text"


@in_oldest
async def test_secret_key_in_the_oldest(pod: Pod) -> None:
    # 1.0.0 reads the key and encrypts nothing with it; what it has read is all there is to see.
    script = (
        "from openhands.agent_server.config import get_default_config\n"
        "print(get_default_config().secret_key.get_secret_value())\n"
    )
    done = subprocess.run(
        [interpreter("1.0.0"), "-W", "ignore", "-c", script],
        env=await pod.environment(), text=True, capture_output=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == SECRET_KEY


def stored_secret(pod: Pod, name: str) -> str:
    stored = json.loads((pod.root / "persistence" / "secrets.json").read_text())
    return str(stored["custom_secrets"][name]["secret"])


@in_newest
async def test_previous_secret_keys(pod: Pod) -> None:
    headers = {"X-Session-API-Key": SESSION_KEY}
    url = pod.proxy.url + "/api/settings/secrets/OLD"
    async with pod.proxy.session.get(url, headers=headers) as answer:
        assert await answer.text() == "kept from before"
    # Read with the previous key, and encrypted anew under the present one.
    assert decrypted("newest", stored_secret(pod, "OLD"), SECRET_KEY) == "kept from before"


@since_1_20
async def test_web_url(pod: Pod) -> None:
    status, schema = await pod.proxy.get("/openapi.json")
    assert status == 200
    assert schema["servers"] == [{"url": "/runtime/7"}]


@in_newest
async def test_conversation_worktree_root(pod: Pod, provider: Provider) -> None:
    project = pod.root / "repository"
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@t.test", "-C", str(project)]
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    (project / "file.txt").write_text("in the repository")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "first"], check=True)
    conversation = await pod.start_conversation(
        provider,
        worktree=True,
        workspace={"kind": "LocalWorkspace", "working_dir": str(project)},
    )
    await pod.over(conversation)
    checkout = pod.root / "mount" / "worktrees" / conversation / "repository"
    assert (checkout / "file.txt").read_text() == "in the repository"


@in_newest
async def test_max_concurrent_runs(pod: Pod, provider: Provider) -> None:
    provider.hold()
    held = await pod.start_conversation(provider, HOLD)
    await provider.held.wait()
    await pod.execution_status(held, {"running"})
    headers = {"X-Session-API-Key": SESSION_KEY}
    another = pod.conversation(provider, "Me too?")
    status, _ = await pod.proxy.request("POST", "/api/conversations", headers=headers, json=another)
    assert status == 429
    provider.release.set()
    assert await pod.over(held) == "finished"


@in_newest
async def test_telemetry(pod: Pod, receiver: Receiver) -> None:
    told = await receiver.until(lambda posted: posted.path == "/telemetry")
    assert told.headers["Authorization"] == f"Bearer {TELEMETRY_TOKEN}"


@in_all
async def test_no_delivered_secret_is_logged(pod: Pod) -> None:
    await pod.run("echo nothing")
    delivered = (SESSION_KEY, SECOND_KEY, SECRET_KEY, OLDER_KEY, MODEL_KEY, TELEMETRY_TOKEN)
    assert not [secret for secret in (*delivered, WEBHOOK_HEADER) if secret in pod.proxy.text]
