"""`Idempotency-Key` on `POST /api/init`: on the real proxy, and the rules by themselves."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from proxy.errors import RequestError
from proxy.lifecycle.claims import LONGEST_ID, Claims, read_claim_id
from tests.harness import KEY
from tests.running import exit_upstream

if TYPE_CHECKING:
    from tests.harness import ProxyProcess, Serve

pytestmark = pytest.mark.slow

READY = {"state": "ready", "error": None}
BODY = b'{"env": {"CLAIM": "mine"}, "session_api_keys": ["of-the-user"]}'


def refused(state: str) -> tuple[int, Any]:
    return 409, {"detail": f"server already in state: {state}, claimed by another request"}


REFUSED = refused("ready")


async def claim(
    proxy: ProxyProcess, name: str | None, body: bytes = BODY, key: str = KEY
) -> tuple[int, Any]:
    headers = {"X-Init-API-Key": key} | ({"Idempotency-Key": name} if name is not None else {})
    return await proxy.request("POST", "/api/init", data=body, headers=headers)


async def test_a_claim_that_is_repeated_after_ready_is_answered_again(serve: Serve) -> None:
    proxy = await serve()
    assert await claim(proxy, "one") == (200, READY)
    pid = (await proxy.get("/api/self"))[1]["pid"]
    assert await claim(proxy, "one") == (200, READY)
    assert (await proxy.get("/api/self"))[1]["pid"] == pid
    assert (await proxy.get("/api/init?details=true"))[1]["attempt"] == 1


async def test_the_same_claim_joins_a_running_activation(serve: Serve) -> None:
    proxy = await serve()
    answers = await asyncio.gather(*(claim(proxy, "one") for _ in range(20)))
    assert answers == [(200, READY)] * 20
    assert (await proxy.get("/api/init?details=true"))[1]["attempt"] == 1


async def test_one_of_many_claims_wins_and_all_its_repetitions_with_it(serve: Serve) -> None:
    proxy = await serve()
    names = [str(n % 4) for n in range(20)]
    bodies = [b'{"env": {"CLAIM": "%s"}}' % name.encode() for name in names]
    answers = await asyncio.gather(*map(claim, [proxy] * 20, names, bodies))
    winner = (await proxy.get("/api/env"))[1]["CLAIM"]
    for name, answer in zip(names, answers, strict=True):
        assert answer in ([(200, READY)] if name == winner else [refused("initializing"), REFUSED])


async def test_any_other_request_is_refused_and_learns_nothing(serve: Serve) -> None:
    proxy = await serve()
    first = asyncio.create_task(claim(proxy, "one", b'{"env": {"ECHO_NEVER_READY": "1"}}'))
    await proxy.until("initializing")
    others = [
        ("one", BODY),
        ("one", b""),
        ("two", BODY),
        ("two", b'{"env": {"ECHO_NEVER_READY": "1"}}'),
        ("One", b'{"env": {"ECHO_NEVER_READY": "1"}}'),
        ("two", b"{"),
    ]
    for name, body in others:
        assert await claim(proxy, name, body) == refused("initializing")
    assert (await claim(proxy, None))[0] == 400
    assert (await claim(proxy, "one", key="wrong"))[0] == 401
    await proxy.stop()
    assert (await first)[0] == 503


async def test_without_a_claim_id_nobody_can_ask_again(serve: Serve) -> None:
    proxy = await serve()
    assert await claim(proxy, None) == (200, READY)
    assert (await claim(proxy, None))[0] == 400
    assert await claim(proxy, "one") == REFUSED


async def test_after_a_failure_everybody_who_joined_is_told_and_the_server_is_free(
    serve: Serve,
) -> None:
    proxy = await serve()
    wrong = b'{"env": {"ECHO_EXIT": "3"}}'
    answers = await asyncio.gather(claim(proxy, "one", wrong), claim(proxy, "one", wrong))
    for status, body in answers:
        assert (status, body["state"]) == (500, "dormant")
        assert "exited with code 3" in body["error"]
    assert await claim(proxy, "two") == (200, READY)
    assert await claim(proxy, "one", wrong) == REFUSED


async def test_the_same_claim_may_try_again_after_its_failure(serve: Serve) -> None:
    proxy = await serve()
    wrong = b'{"env": {"ECHO_EXIT": "3"}}'
    assert (await claim(proxy, "one", wrong))[0] == 500
    assert (await claim(proxy, "one", wrong))[0] == 500
    assert (await claim(proxy, "one"))[0] == 200


async def test_a_refused_body_takes_no_claim(serve: Serve) -> None:
    proxy = await serve()
    assert (await claim(proxy, "one", b'{"unknown": 1}'))[0] == 422
    assert await claim(proxy, "two") == (200, READY)


async def test_a_claim_outlives_restarts_of_the_upstream(serve: Serve) -> None:
    proxy = await serve()
    assert await claim(proxy, "one") == (200, READY)
    os.kill((await proxy.get("/api/self"))[1]["pid"], signal.SIGKILL)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
    assert (await claim(proxy, "two"))[0] == 409
    assert await claim(proxy, "one") == (200, READY)  # waits for the restart
    assert (await proxy.get("/api/env"))[1]["CLAIM"] == "mine"


async def test_after_on_exit_dormant_the_server_is_free(serve: Serve) -> None:
    proxy = await serve(on_exit="dormant")
    assert await claim(proxy, "one") == (200, READY)
    await exit_upstream(proxy, 7)
    await proxy.until("dormant")
    assert await claim(proxy, "two") == (200, READY)
    assert await claim(proxy, "one") == REFUSED


async def test_a_claim_during_shutdown_is_unavailable(serve: Serve) -> None:
    proxy = await serve()
    first = asyncio.create_task(claim(proxy, "one", b'{"env": {"ECHO_NEVER_READY": "1"}}'))
    await proxy.until("initializing")
    joined = asyncio.create_task(claim(proxy, "one", b'{"env": {"ECHO_NEVER_READY": "1"}}'))
    await proxy.get("/health")
    await proxy.stop()
    assert [(await first)[0], (await joined)[0]] == [503, 503]


async def test_an_id_that_is_none_is_refused(serve: Serve) -> None:
    proxy = await serve()
    for name in ("", " ", "x" * (LONGEST_ID + 1), "ключ"):
        status, body = await claim(proxy, name)
        assert status == 400
        assert "Idempotency-Key" in body["detail"]


def test_an_id_is_read_as_it_is_given() -> None:
    assert read_claim_id([]) is None
    assert read_claim_id(['"8e03978e-40d5"']) == '"8e03978e-40d5"'
    for wrong in (["a", "a"], [""], ["a\tb"], ["a" * 600]):
        with pytest.raises(RequestError, match="Idempotency-Key"):
            read_claim_id(wrong)


def test_a_claim_is_known_by_id_and_body_and_shows_neither() -> None:
    claims = Claims()
    assert not claims.held_by("")
    claims.take("one", b"body of it")
    assert claims.held_by("one")
    assert claims.came_with(b"body of it")
    assert "body of it" not in str(vars(claims))
    assert not claims.held_by("two")
    assert not claims.came_with(b"body of It")
    claims.take(None, b"body of it")
    assert not claims.held_by("one")
    assert not claims.came_with(b"body of it")
    assert repr(claims) == "<Claims none>"
