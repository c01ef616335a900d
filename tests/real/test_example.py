"""The documentation's ready-to-run example on the newest agent server, and what users do next."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import pytest_asyncio

from tests.real.pods import MODEL_KEY, OVER, SESSION_KEY, Pod, dormant_pod, interpreter
from tests.real.provider import ANSWER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.real.provider import Provider

pytestmark = [
    pytest.mark.real,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def pod(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pod]:
    root = tmp_path_factory.mktemp("pod")
    async with dormant_pod("newest", root) as pod:
        body = {
            "env": {"LLM_API_KEY": MODEL_KEY},
            "conversations_path": str(root / "mount" / "conversations"),
            "session_api_keys": [SESSION_KEY],
        }
        assert await pod.proxy.init(body) == (200, {"state": "ready", "error": None})
        yield pod


async def test_the_pod_is_dormant_at_first(pod: Pod) -> None:
    pod.assert_it_was_dormant()


async def test_the_pod_is_ready_after_the_init(pod: Pod) -> None:
    assert (await pod.proxy.get("/health"))[0] == 200
    assert (await pod.proxy.get("/ready"))[0] == 200
    assert await pod.proxy.get("/api/init") == (200, {"state": "ready", "error": None})
    assert (await pod.proxy.init({}))[0] == 400


async def test_only_the_delivered_session_key_opens_the_api(pod: Pod) -> None:
    assert await pod.status("/api/conversations/count", key=None) == 401
    assert await pod.status("/api/conversations/count", key="wrong") == 401
    assert await pod.status("/api/conversations/count") == 200


async def test_a_conversation_runs_to_its_end_and_returns_the_answer(
    pod: Pod, provider: Provider
) -> None:
    conversation = await pod.start_conversation(provider)
    assert await pod.over(conversation) == "finished"
    said = await pod.api("GET", f"/api/conversations/{conversation}/agent_final_response")
    assert said == {"response": ANSWER}
    assert MODEL_KEY in provider.keys
    kept = Path(pod.root / "mount" / "conversations" / conversation.replace("-", ""))
    assert list((kept / "events").glob("event-*.json"))
    assert not list((pod.root / "work").rglob("event-*.json"))


async def test_the_events_of_a_conversation_come_over_a_websocket(
    pod: Pod, provider: Provider
) -> None:
    # Without a first message it has nothing to do before somebody listens.
    request = pod.conversation(provider, "Once more?")
    message = request.pop("initial_message")
    conversation = (await pod.api("POST", "/api/conversations", json=request))["id"]
    url = f"{pod.proxy.url}/sockets/events/{conversation}?session_api_key={SESSION_KEY}"
    seen: list[dict[str, Any]] = []
    async with asyncio.timeout(30), pod.proxy.session.ws_connect(url) as socket:
        seen.append(await socket.receive_json())
        await pod.api("POST", f"/api/conversations/{conversation}/events", json=message)
        while (ended := how_it_ended(seen[-1])) is None:
            seen.append(await socket.receive_json())
        await socket.send_json({"role": "user", "content": [{"type": "text", "text": "Thanks."}]})
        while "Thanks." not in json.dumps(seen[-1]):
            seen.append(await socket.receive_json())
    assert ended == "finished"
    assert ANSWER in json.dumps([event for event in seen if event["kind"] == "ActionEvent"])
    await pod.over(conversation)


def how_it_ended(event: dict[str, Any]) -> str | None:
    status = event["value"] if event.get("key") == "execution_status" else None
    return status if status in OVER else None


async def test_a_websocket_with_a_wrong_key_sees_nothing(pod: Pod, provider: Provider) -> None:
    conversation = await pod.start_conversation(provider)
    url = f"{pod.proxy.url}/sockets/events/{conversation}"
    # A wrong key in the query is refused before the handshake ...
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await pod.proxy.session.ws_connect(f"{url}?session_api_key=wrong")
    assert caught.value.status == 403
    # ... one in the first message with the server's own close code.
    async with asyncio.timeout(30), pod.proxy.session.ws_connect(url) as socket:
        await socket.send_json({"type": "auth", "session_api_key": "wrong"})
        message = await socket.receive()
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 4001)
    await pod.over(conversation)


async def test_the_sdks_own_remote_client_runs_a_conversation(pod: Pod, provider: Provider) -> None:
    asked = {
        "host": pod.proxy.url,
        "api_key": SESSION_KEY,
        "working_dir": str(pod.root / "project"),
        "model": "openai/stand-in",
        "base_url": provider.base_url,
        "model_key": MODEL_KEY,
        "text": "What is the answer, remotely?",
    }
    process = await asyncio.create_subprocess_exec(
        interpreter("newest"), str(Path(__file__).with_name("remote_client.py")),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, cwd=pod.root,
        env={
            "HOME": str(pod.root / "client-home"),
            "PATH": "/usr/bin:/bin",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "OPENHANDS_SUPPRESS_BANNER": "1",
        },
    )  # fmt: skip
    out, err = await process.communicate(json.dumps(asked).encode())
    assert process.returncode == 0, err.decode()
    said = json.loads(out.decode().splitlines()[-1])
    assert said["class"] == "RemoteConversation"
    assert said["workspace"] == "RemoteWorkspace"
    assert said["status"] == "finished"
    assert said["answer"] == ANSWER
    assert {"ActionEvent", "MessageEvent"} <= set(said["pushed"])
    assert said["command"] == "from-the-workspace"
    assert (pod.root / "mount" / "conversations" / said["id"].replace("-", "")).is_dir()


async def test_no_delivered_secret_is_logged(pod: Pod) -> None:
    for secret in (SESSION_KEY, MODEL_KEY):
        assert secret not in pod.proxy.text
