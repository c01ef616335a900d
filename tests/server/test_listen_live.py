"""The listening socket of a real proxy."""

from __future__ import annotations

import os
import select
import signal
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from tests.harness import echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow

CROWD = 500


async def test_a_crowd_is_queued_while_the_proxy_is_busy(serve: Serve) -> None:
    proxy = await serve()
    host, _, port = proxy.url.removeprefix("http://").rpartition(":")
    os.kill(proxy.process.pid, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.socket()) for _ in range(CROWD)]
            connecting = select.poll()
            for each in crowd:
                each.setblocking(False)
                each.connect_ex((host, int(port)))
                connecting.register(each, select.POLLOUT)
            assert len(connecting.poll(1000)) == CROWD
    finally:
        os.kill(proxy.process.pid, signal.SIGCONT)


async def test_a_crowd_is_queued_on_a_unix_socket(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    path = tmp_path / "proxy.sock"
    settings["listen"]["address"] = f"unix:{path}"
    proxy = await serve(settings)
    os.kill(proxy.process.pid, signal.SIGSTOP)
    try:
        with ExitStack() as stack:
            crowd = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(CROWD)]
            for each in crowd:
                each.setblocking(False)
                each.connect(str(path))  # BlockingIOError: the queue is full
    finally:
        os.kill(proxy.process.pid, signal.SIGCONT)
