"""Where the listeners are, by real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from proxy.errors import ProxyError
from proxy.server.listen import Listener
from proxy.settings import TcpAddress, UnixAddress, UnixSettings
from tests.harness import ROOT, clean_environment, echo_settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.harness import Serve


@asynccontextmanager
async def listening(
    address: TcpAddress | UnixAddress, unix: UnixSettings | None = None
) -> AsyncIterator[str]:
    listener = Listener(address, unix or UnixSettings())
    try:
        where = listener.bind()
        await listener.serve(asyncio.Protocol)
        yield where
    finally:
        listener.close()


def reached(host: str, where: str) -> bool:
    try:
        socket.create_connection((host, int(where.rpartition(":")[2])), 10).close()
    except OSError:
        return False
    return True


async def test_localhost_is_both_loopbacks_on_one_port() -> None:
    async with listening(TcpAddress("localhost", 0)) as where:
        assert where.startswith("localhost:")
        assert reached("127.0.0.1", where)
        assert reached("::1", where)


async def test_the_default_listens_in_both_families() -> None:
    async with listening(TcpAddress("::", 0)) as where:
        assert reached("127.0.0.1", where)
        assert reached("::1", where)


async def test_one_family_is_one_family() -> None:
    async with listening(TcpAddress("0.0.0.0", 0)) as where:
        assert reached("127.0.0.1", where)
        assert not reached("::1", where)


async def test_a_port_that_is_taken_in_one_family_is_taken() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with pytest.raises(ProxyError, match=f"cannot listen on localhost:{port}: Address already"):
            Listener(TcpAddress("localhost", port), UnixSettings()).bind()
        assert not reached("127.0.0.1", f":{port}")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace needs root")
@pytest.mark.parametrize("host", ["localhost", "::"])
def test_without_ipv6_the_other_family_does(host: str) -> None:
    program = (
        "from proxy.server.listen import Listener\n"
        "from proxy.settings import TcpAddress, UnixSettings\n"
        f"listener = Listener(TcpAddress({host!r}, 0), UnixSettings())\n"
        "port = int(listener.bind().rpartition(':')[2])\n"
        "import socket\n"
        "socket.create_connection(('127.0.0.1', port))\n"
    )
    network = 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1; ip link set lo up; exec "$@"'
    subprocess.run(
        ["unshare", "-n", "sh", "-c", network, "sh", sys.executable, "-c", program],
        check=True, cwd=ROOT, env=clean_environment(),
    )  # fmt: skip


async def test_a_unix_socket_has_the_mode_and_group_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "s"
    group = os.getgroups()[0] if os.getgroups() else os.getgid()
    before = os.umask(0o077)
    try:
        settings = UnixSettings(mode="0662", group=group)
        async with listening(UnixAddress(str(path)), settings):
            status = path.stat()
            assert stat.S_IMODE(status.st_mode) == 0o662
            assert status.st_gid == group
        assert not path.exists()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(before)


def test_a_group_that_is_unknown_is_named(tmp_path: Path) -> None:
    unix = UnixSettings(group="no-such-group")
    with pytest.raises(ProxyError, match=r"listen\.unix\.group: there is no group 'no-such-group'"):
        Listener(UnixAddress(str(tmp_path / "s")), unix).bind()


@pytest.mark.slow
async def test_a_proxy_in_front_on_the_socket_can_be_trusted(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "proxy.sock"
    settings = echo_settings(tmp_path) | {"deferred_init": False}
    settings["listen"] = {"address": f"unix:{path}", "admin": None, "unix": {"trusted": True}}
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("cause") == "UPSTREAM_READY")
    connector = aiohttp.UnixConnector(str(path))
    async with aiohttp.ClientSession("http://proxy", connector=connector) as session:
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}
        async with session.post("/x", headers=headers) as answer:
            told = dict((await answer.json())["headers"])
    assert told["X-Forwarded-For"] == "192.0.2.1"
    assert told["X-Forwarded-Proto"] == "https"
