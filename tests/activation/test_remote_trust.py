"""The agent in a container of its own: who may command its launcher, and whose init counts."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from tests.activation.agentcontainer import container
from tests.activation.apart import KEYS, claimed, greeting, killed, pid_of_upstream, settings
from tests.harness import KEY
from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield listener


async def listens(path: Path) -> None:
    while True:
        with socket.socket(socket.AF_UNIX) as stranger:
            if stranger.connect_ex(str(path)) == 0:
                return
        await asyncio.sleep(0.01)


class Numbered(Protocol):
    def fileno(self) -> int: ...


def told(path: Path, message: dict[str, Any], *brought: Numbered) -> dict[str, Any]:
    """What is answered to somebody who speaks as the proxy does, before it hangs up."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.settimeout(20)
        stranger.connect(str(path))
        line = json.dumps(message).encode() + b"\n"
        socket.send_fds(stranger, [line], [end.fileno() for end in brought])
        with stranger.makefile("rb") as lines:
            answer = dict(json.loads(lines.readline()))
            assert lines.read() == b""
    return answer


@pytest.mark.parametrize("connected", [True, False])
async def test_code_in_the_agents_container_can_do_nothing_with_the_socket(
    serve: Serve, tmp_path: Path, *, connected: bool
) -> None:
    async with container(tmp_path):
        proxy = await claimed(serve, settings(tmp_path))
        pid = await pid_of_upstream(proxy)
        if not connected:
            await killed(proxy)
        said: list[dict[str, Any]] = [
            {"id": 1, "op": "stop", "grace": 0},
            {"op": "identify", "version": 1},
            {"id": 1, "op": "start", "argv": ["/bin/true"]},
        ]
        with listening(tmp_path / "a-strangers-own") as own:
            brings: list[list[Numbered]] = [[], [own], [own, own]]
            for message in said:
                for brought in brings:
                    answer = await asyncio.to_thread(
                        told, tmp_path / "launcher.sock", message, *brought
                    )
                    assert answer["ok"] is False
                    assert "GREETING" not in json.dumps(answer)
        assert alive(pid)


@pytest.mark.parametrize("brought", ["nothing", "a file", "a socket that is mute"])
async def test_who_brings_no_listening_socket_is_not_the_controller(
    serve: Serve, tmp_path: Path, brought: str
) -> None:
    async with container(tmp_path) as agent:
        await listens(agent.socket)
        with socket.socket(socket.AF_UNIX) as end, (tmp_path / "file").open("w") as file:
            ways: dict[str, list[Numbered]] = {"a file": [file], "a socket that is mute": [end]}
            handed = ways.get(brought, [])
            identify = {"op": "identify", "version": 1}
            answer = await asyncio.to_thread(told, agent.socket, identify, *handed)
        assert answer["error"] == "cannot identify: a listening socket must come with it"
        assert await greeting(await claimed(serve, settings(tmp_path))) == "hello-hello"


async def test_a_second_controller_is_refused_even_in_the_proxys_container(
    serve: Serve, tmp_path: Path
) -> None:
    async with container(tmp_path):
        proxy = await claimed(serve, settings(tmp_path))
        chosen = settings(tmp_path)
        second = tmp_path / "second"
        second.mkdir()
        other = await serve(chosen, url=f"http+unix://{second}/up.sock")
        assert await other.ended() == 1
        assert "there is a controller" in other.text
        assert await greeting(proxy) == "hello-hello"


async def test_a_launcher_of_another_proxys_is_not_used(serve: Serve, tmp_path: Path) -> None:
    async with container(tmp_path):
        proxy = await claimed(serve, settings(tmp_path))
        await killed(proxy)
        (tmp_path / "token").unlink()  # the volume that only the proxy has is another one
        again = await serve(settings(tmp_path))
        assert await again.ended() == 1
        assert "another controller was here before" in again.text


async def test_who_takes_the_sockets_place_is_told_nothing(serve: Serve, tmp_path: Path) -> None:
    """Neither when the proxy restarts, nor when the pod is the next user's: not even a greeting."""
    path = tmp_path / "launcher.sock"
    async with container(tmp_path) as agent:
        first = await claimed(serve, settings(tmp_path, on_exit="dormant"))
        pid = await pid_of_upstream(first)
        path.rename(tmp_path / "the-launchers")
        with listening(path) as impostor:
            await killed(first)
            again = await serve(settings(tmp_path, on_exit="dormant"))
            await again.until("ready")
            assert await pid_of_upstream(again) == pid
            os.kill(pid, signal.SIGKILL)
            await again.until("dormant")
            assert (await again.init({"env": {"GREETING": "of-the-next-user"}}))[0] == 200
            assert await greeting(again) == "of-the-next-user"
            impostor.setblocking(False)
            with pytest.raises(BlockingIOError):
                impostor.accept()
        # What it leaves behind gives way to the launcher of the container's next life.
        agent.kill()
        agent.start()
        await again.until("dormant")
        assert (await again.init(KEYS))[0] == 200


async def test_what_lies_at_the_proxys_own_path_gives_way(serve: Serve, tmp_path: Path) -> None:
    """A token of an older release, or the socket of a launcher that is gone."""
    (tmp_path / "token").write_text("00" * 32)
    async with container(tmp_path) as agent:
        proxy = await claimed(serve, settings(tmp_path))
        agent.kill()
        agent.start()
        await proxy.until("ready")
        assert await greeting(proxy) == "hello-hello"


async def test_a_launcher_that_hangs_up_or_talks_nonsense_is_named(
    serve: Serve, tmp_path: Path
) -> None:
    with listening(tmp_path / "launcher.sock") as impostor:

        def answer() -> None:
            with impostor.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"[]\n")

        answering = asyncio.create_task(asyncio.to_thread(answer))
        proxy = await serve(settings(tmp_path))
        assert await proxy.ended() == 1
        await answering
        assert f"cannot use the launcher at {tmp_path}/launcher.sock: it is none" in proxy.text


async def test_an_init_that_waited_while_a_running_upstream_was_found_is_refused(
    serve: Serve, tmp_path: Path
) -> None:
    """Nothing of it may be used: neither its keys at the gate, nor its claim afterwards."""
    gated = settings(tmp_path) | {"gate": {"session_keys": "enforce"}}
    late = {"session_api_keys": ["another-users-key"], "env": {"GREETING": "of-another"}}
    claim = {"X-Init-API-Key": KEY, "Idempotency-Key": "another-claim"}
    first_key, other_key = (
        {"X-Session-API-Key": key} for key in ("s-1234567", "another-users-key")
    )
    async with container(tmp_path) as agent:
        first = await claimed(serve, gated)
        pid = (await first.get("/api/self", headers=first_key))[1]["pid"]
        await killed(first)
        assert agent.process is not None
        agent.process.send_signal(signal.SIGSTOP)  # found a little later
        again = await serve(gated)
        post = asyncio.create_task(again.request("POST", "/api/init", json=late, headers=claim))
        while (await again.init({"unknown": 1}))[0] != 400:  # the state is asked before the fields
            await asyncio.sleep(0.01)
        agent.process.send_signal(signal.SIGCONT)
        assert (await post)[0] == 409
        await again.until("ready")
        assert (await again.request("POST", "/api/init", json=late, headers=claim))[0] == 409
        assert (await again.get("/api/self", headers=other_key))[0] == 401
        assert (await again.get("/api/self", headers=first_key))[1]["pid"] == pid
        assert (await again.get("/health"))[0] == 200
        os.kill(pid, signal.SIGKILL)  # it is watched as well
        await again.logged(lambda line: line.get("cause") == "UPSTREAM_DIED")
