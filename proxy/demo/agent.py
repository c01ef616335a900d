"""A sample agent server, for the tour, for tests, and for a first try without any agent.

It is honest where it matters to what stands in front of it: sessions keyed by
`X-Session-API-Key`, conversations that survive a restart, a WebSocket and an event stream that
replay and then follow, and a shutdown that closes both properly. Only its wits are small: it
counts words (`reverse TEXT` reverses, `wait SECONDS` waits).

    python -m proxy.demo.agent [--host HOST] [--port PORT | --unix PATH]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from proxy.demo.application import CLOSE_TIMEOUT, AgentServer
from proxy.demo.config import Config, ConfigError
from proxy.errors import cause_of

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)


class StartError(Exception):
    """The server cannot start; the text says what it could not do, and why."""


async def serve(config: Config, *, host: str, port: int, unix: str | None) -> None:
    """Serve until SIGTERM or SIGINT. Raises `StartError`."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    server = AgentServer(config)
    try:
        server.open()
    except OSError as error:
        path = config.conversations_path
        raise StartError(f"cannot keep conversations in {path}: {error.strerror}") from None
    # No access log: a WebSocket's target may carry the session key.
    runner = web.AppRunner(server.application(), access_log=None, shutdown_timeout=CLOSE_TIMEOUT)
    runner.app.on_shutdown.append(lambda _app: server.close())
    await runner.setup()
    try:
        address = await _listen(runner, host, port, unix)
        logger.info("listening on %s, pid %d, %s", address, os.getpid(), config)
        await stopping.wait()
        logger.info("shutting down")
        if unix:
            Path(unix).unlink(missing_ok=True)  # noqa: ASYNC240  quick, and nobody waits
    finally:
        await runner.cleanup()


async def _listen(runner: web.AppRunner, host: str, port: int, unix: str | None) -> str:
    """The address that is listened on: with port 0 the kernel chose, only the socket knows."""
    site = web.UnixSite(runner, unix) if unix else web.TCPSite(runner, host, port)
    try:
        await site.start()
    except OSError as error:
        place = f"unix:{unix}" if unix else f"{host}:{port}"
        raise StartError(f"cannot listen on {place}: {cause_of(error)}") from None
    return f"unix:{unix}" if unix else "{}:{}".format(*runner.addresses[0][:2])


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 65535, is {text!r}")
    return int(text)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m proxy.demo.agent", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    listener = parser.add_mutually_exclusive_group()
    listener.add_argument("--port", type=_port, default=8000, help="0 lets the kernel choose")
    listener.add_argument("--unix", metavar="PATH", help="listen on a Unix socket instead")
    arguments = parser.parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    where = {"host": arguments.host, "port": arguments.port, "unix": arguments.unix}
    try:
        asyncio.run(serve(Config.from_environ(os.environ), **where))
    except (ConfigError, StartError) as error:
        logger.error("%s", error)  # noqa: TRY400  the cause is in the text
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
