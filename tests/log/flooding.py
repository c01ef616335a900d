"""A proxy that logs more than is read, for tests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from tests.forked import Forked

if TYPE_CHECKING:
    import asyncio

    from tests.harness import ProxyProcess


def stderr_of(proxy: ProxyProcess) -> asyncio.ReadTransport:
    if isinstance(proxy.process, Forked):
        return proxy.process.transport
    transport = cast("Any", proxy.process)._transport
    return cast("asyncio.ReadTransport", transport.get_pipe_transport(2))


async def chatter(proxy: ProxyProcess, times: int) -> None:
    for number in range(times):
        await proxy.get(f"/api/print?line={number}-{'z' * 7_000}")
