"""What readiness can be: an answer, something in it, a line of the log, or a connection alone."""

from __future__ import annotations

import asyncio
import re
import selectors
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from proxy.activation.readiness.asking import Asking
from proxy.activation.readiness.probe import Probe
from proxy.activation.readiness.question import Failure
from proxy.settings import ReadySettings
from proxy.settings.addresses import parse_url
from tests.harness import ROOT, echo_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from tests.harness import Serve

    Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def upstream(answer: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_get("/ready", answer)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


def probe(url: str, **ready: Any) -> Probe:
    return Probe(parse_url(url), ReadySettings(**ready))


async def passed(probe: Probe) -> None:
    async with asyncio.timeout(60):
        await probe.wait(asyncio.get_running_loop().create_future())


async def test_an_answer_that_never_comes_does_not_hold_up_the_next_attempt() -> None:
    asked = 0

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked < 3:
            await asyncio.Event().wait()
        return web.Response()

    async with upstream(answer) as url:
        await passed(probe(url, timeout=3600.0))
    assert asked == 3


async def test_a_slow_answer_counts_though_others_were_asked_for_meanwhile() -> None:
    asked = 0
    many = asyncio.Event()

    async def answer(_request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 1:
            await many.wait()
            return web.Response()
        many.set()
        return web.Response(status=503)

    async with upstream(answer) as url:
        await passed(probe(url, interval=0.1, timeout=3600.0))


class HurriedLoop(asyncio.SelectorEventLoop):
    """In which waiting takes no time: its clock jumps to whatever is due next."""

    def __init__(self) -> None:
        self.clock = 0.0
        super().__init__(Hurried(self))

    def time(self) -> float:
        return self.clock


class Hurried(selectors.DefaultSelector):
    loop: HurriedLoop

    def __init__(self, loop: HurriedLoop) -> None:
        super().__init__()
        self.loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.loop.clock += timeout or 0.0
        return super().select(0)


@pytest.mark.parametrize(("seconds", "most"), [(0.2, 21), (6.0, 100), (60.0, 200)])
def test_who_says_not_yet_for_long_is_asked_less_and_less_often(seconds: float, most: int) -> None:
    class Refusing:
        target = "x"
        asked = 0

        async def ask(self) -> Failure | None:
            self.asked += 1
            late = asyncio.get_running_loop().time() >= seconds
            return None if late else Failure("not yet")

    async def ready() -> float:
        await Asking(question, 0.01, lambda _why: None).until_passed()  # type: ignore[arg-type]
        return asyncio.get_running_loop().time()

    question = Refusing()
    with asyncio.Runner(loop_factory=HurriedLoop) as runner:
        came = runner.run(ready())
    assert question.asked <= most
    assert came <= max(seconds * 1.05, seconds + 0.011)  # nobody waits much longer for that


@pytest.mark.parametrize(
    ("ready", "passes"),
    [
        ({"statuses": ["200-299"]}, True),
        ({"statuses": [204, "400-499"]}, False),
        ({"headers": {"X-Probe": "yes", "Host": "agent.example"}}, True),
        ({"headers": {"X-Probe": "no"}}, False),
        ({"body": r'"ready":\s*true'}, True),
        ({"body": "^never$"}, False),
        ({"path": None}, True),
    ],
)
async def test_what_was_asked_for_decides(ready: dict[str, Any], *, passes: bool) -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.headers.get("X-Probe", "yes") != "yes":
            raise web.HTTPForbidden
        return web.json_response({"ready": True}, status=201 if "statuses" in ready else 200)

    async with upstream(answer) as url:
        why = await probe(url, **ready).check()
    assert (why is None) is passes, why


async def test_a_stream_that_goes_on_is_ready_as_soon_as_it_says_so() -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse()
        await stream.prepare(request)
        await stream.write(b"state: starting\nstate: ")
        await stream.write(b"up\n")
        await asyncio.Event().wait()
        return stream

    async with upstream(answer) as url:
        assert await probe(url, body="state: up", timeout=60.0).check() is None


async def test_a_connection_is_enough_at_a_name_and_at_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "up.sock")
    unheard = probe(f"http+unix://{path}", path=None)
    assert "cannot reach http+unix://" in str(await unheard.check())
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        assert await unheard.check() is None
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert await probe(f"http://localhost:{port}", path=None).check() is None


async def test_a_line_of_the_log_is_waited_for_in_each_run(serve: Serve, tmp_path: Path) -> None:
    ready = {"path": None, "log": "upstream is (up|there)$"}
    proxy = await serve(echo_settings(tmp_path, ready=ready))
    assert (await proxy.init({}))[0] == 200
    assert (await proxy.get("/ready"))[0] == 200
    line = await proxy.logged(lambda line: line.get("message") == "echo upstream is up")
    ready_line = await proxy.logged(lambda line: line.get("state") == "ready")
    assert proxy.log.index(line) < proxy.log.index(ready_line)


async def test_a_line_that_never_comes_is_named(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path, ready={"log": "never said"})
    settings["init"]["timeout"] = 2
    proxy = await serve(settings)
    status, body = await proxy.init({})
    assert status == 504
    assert "no line of the upstream's output matches upstream.ready.log" in body["error"]


def test_another_run_has_not_said_what_the_last_one_did() -> None:
    probe = Probe(parse_url("http://127.0.0.1:9"), ReadySettings(log=re.compile("up"), path=None))

    async def why() -> str | None:
        return await probe.check()

    probe.begin()
    assert "no line" in str(asyncio.run(why()))
    probe.hear("server is up")
    assert "cannot reach" in str(asyncio.run(why()))
    probe.begin()
    assert "no line" in str(asyncio.run(why()))


async def test_what_is_recorded_is_as_ready_as_the_server_says(
    serve: Serve, tmp_path: Path
) -> None:
    program = tmp_path / "late.py"
    program.write_text(
        "import runpy, sys, threading\n"
        "def late():\n    import colorsys\n    print('colours are there', flush=True)\n"
        "threading.Timer(0.5, late).start()\n"
        f"runpy.run_path({str(ROOT / 'tests/upstreams/echo.py')!r}, run_name='__main__')\n"
    )
    settings = echo_settings(
        tmp_path,
        preload={"modules": "auto", "plan": str(tmp_path / "plan.json")},
        ready={"path": None, "log": "colours are there"},
    )
    settings["upstream"]["command"][1] = str(program)
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("message") == "fork server is warm")
    assert "colorsys" in (tmp_path / "plan.json").read_text()
