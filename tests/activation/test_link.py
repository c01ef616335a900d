"""The controller's end of the wire, with a launcher that says what it likes."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import pytest

from proxy.activation.launched.link import Link
from tests.launcher.launching import PATIENCE

if TYPE_CHECKING:
    from collections.abc import Callable


async def linked(on_event: Callable[[dict[str, Any]], None], said: bytes) -> Link:
    """A link to a launcher that has said this and then gone."""
    ours, theirs = socket.socketpair()
    link = Link(on_event)
    theirs.settimeout(PATIENCE)
    await asyncio.get_running_loop().create_unix_connection(lambda: link, sock=ours)
    with theirs:
        await asyncio.to_thread(theirs.sendall, said)
    return link


async def test_a_flood_of_lines_leaves_turns_of_the_loop_to_others() -> None:
    taken: list[int] = []
    seen: list[int] = []

    def on_event(event: dict[str, Any]) -> None:
        taken.append(event["number"])
        if len(taken) == 1:
            asyncio.get_running_loop().call_soon(lambda: seen.append(len(taken)))

    said = b"".join(b'{"event":"output","number":%d}\n' % number for number in range(5000))
    link = await linked(on_event, said)
    async with asyncio.timeout(PATIENCE):
        await link.closed
    assert taken == list(range(5000))
    assert seen[0] < 100


@pytest.mark.parametrize(
    "nonsense", [b"7", b"[]", b"null", b"{}", b"nonsense", b'{"event":{}}', b"[" * 100_000]
)
async def test_nonsense_from_a_launcher_ends_the_link_or_is_ignored(nonsense: bytes) -> None:
    def on_event(event: dict[str, Any]) -> None:
        events.append(event["name"])

    events: list[str] = []
    link = await linked(on_event, nonsense + b'\n{"event":"e","name":"last"}\n')
    async with asyncio.timeout(PATIENCE):
        await link.closed
    assert events in ([], ["last"])
