"""Ends of tasks that somebody else has started or awaits."""

from __future__ import annotations

import asyncio


async def cancel(task: asyncio.Task[None] | None) -> None:
    """Cancel `task`, if there is one, and wait for its end."""
    if task is not None:
        task.cancel()
        await asyncio.wait([task])
        seen(task)  # whoever awaited the task has reported it


def seen(task: asyncio.Task[None]) -> None:
    """Keep asyncio from reporting that nobody has asked for the failure of `task`."""
    if not task.cancelled():
        task.exception()


def failed(task: asyncio.Task[None]) -> bool:
    """Whether `task` has ended otherwise than by returning."""
    return task.done() and (task.cancelled() or task.exception() is not None)
