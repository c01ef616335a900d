"""The guided tour: the whole life of a warm-pool pod, on real processes, step by step.

A proxy is started as anybody would start it, with the sample agent server behind it, and the
tour plays the orchestrator and then the user. The first answer that is not as it should be ends
the tour; whatever ends it, nothing is left running.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import aiohttp

from proxy import __version__
from proxy.demo.tour.child import ProxyEndedError
from proxy.demo.tour.steps import SOCKET, Steps, TourError
from proxy.demo.tour.terminal import Terminal

if TYPE_CHECKING:
    from typing import TextIO

    from proxy.demo.tour.child import ProxyChild

STEP_TIMEOUT: Final = 30.0  # seconds: a step that takes so long has failed, even on a slow machine
# What a step may fail with: its own checks, the proxy's end, the wire, an answer of another form.
FAULTS: Final = (
    TourError,
    ProxyEndedError,
    aiohttp.ClientError,
    OSError,
    ValueError,
    TypeError,
    LookupError,
)


async def _walk(terminal: Terminal, steps: Steps) -> int:
    """Every step of every chapter; 0, or 1 after the first that failed."""
    for heading, chapter in steps.chapters():
        terminal.heading(heading)
        for what, step in chapter:
            begun = time.perf_counter()
            try:
                async with asyncio.timeout(STEP_TIMEOUT):
                    answer = await step()
            except FAULTS as error:
                text = str(error) or f"nothing within {STEP_TIMEOUT:g} s"
                terminal.failure(time.perf_counter() - begun, what, text)
                _show_log(terminal, steps.child)
                return 1
            terminal.step(time.perf_counter() - begun, what, answer)
    return 0


def _show_log(terminal: Terminal, child: ProxyChild | None) -> None:
    lines = child.log() if child is not None else []
    terminal.heading("The proxy's last log lines" if lines else "The proxy logged nothing")
    for line in lines:
        terminal.line(f"  {terminal.safe(line)}")


async def _tour(terminal: Terminal) -> int:
    begun = time.perf_counter()
    terminal.line(
        f"deferred-init-proxy {__version__}: a warm-pool pod's life, with the sample agent server"
    )
    with tempfile.TemporaryDirectory(prefix="init-demo-") as directory:
        connector = aiohttp.UnixConnector(f"{directory}/{SOCKET}")
        async with aiohttp.ClientSession(connector=connector) as session:
            steps = Steps(Path(directory), session)
            try:
                code = await _walk(terminal, steps)
            finally:
                if steps.child is not None:
                    await steps.child.close()
    if code == 0:
        terminal.line()
        terminal.line(f"Done in {time.perf_counter() - begun:.1f} s.")
    return code


async def _interruptible(terminal: Terminal) -> int:
    """The tour, with signals that end it cleanly; a second one ends it at once."""
    loop = asyncio.get_running_loop()
    tour = asyncio.ensure_future(_tour(terminal))
    received: list[int] = []

    def stop(number: int) -> None:
        received.append(number)
        tour.cancel()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop, number)
    try:
        return await tour
    except asyncio.CancelledError:
        if not received:
            raise
    terminal.line()
    terminal.line("Interrupted; everything that was started is stopped.")
    return 128 + received[0]


def run_tour(out: TextIO | None = None) -> int:
    """Walk the tour, printing to `out` (standard output by default).

    Returns the exit code: 0, 1 when a step failed, 128 + n when signal n ended it.
    """
    try:
        return asyncio.run(_interruptible(Terminal(out or sys.stdout)))
    except BrokenPipeError:
        # Nobody reads any more; the interpreter's last flush must not complain about it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


if __name__ == "__main__":
    sys.exit(run_tour())
