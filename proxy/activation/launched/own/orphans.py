"""Ends what a lost launcher leaves behind.

The proxy is a subreaper, so whatever the launcher was a parent or subreaper of becomes a child of
the proxy's when the launcher dies, in whatever session it hides. Nothing of one run may live on
into the next one: it has the old user's keys in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from proxy.processes import living_children

if TYPE_CHECKING:
    from collections.abc import Collection

# Seconds for killed processes to go; longer means stuck in the kernel.
_LIMIT: Final = 5.0
_POLL: Final = 0.005


async def end_orphans(keep: Collection[int]) -> list[int]:
    """Kill every living child of this process but those in `keep`, and what they leave behind.

    Returns the pids that do not go.
    """
    deadline = asyncio.get_running_loop().time() + _LIMIT
    while left := [pid for pid in living_children(os.getpid()) if pid not in keep]:
        if asyncio.get_running_loop().time() > deadline:
            break
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(_POLL)
    return left
