"""`try`: find out how a server is put behind the proxy, and what that is worth."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proxy.commands.orchestrating.initbody import add_body_arguments, build_body

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from proxy.commands.trying.claim import Claim

_EPILOG = """\
The server is started by itself, to see where it listens and what says that it is ready, then behind
a proxy, cold and as warm as it can wait, and ended each time. {port} in COMMAND is a free port.

example:
  deferred-init-proxy try -- python -m http.server --bind 127.0.0.1 '{port}' > proxy.yaml
"""
_PORT = "{port}"
_PRINTED_PORT = 18000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    import argparse  # noqa: PLC0415  not for other commands

    parser = subparsers.add_parser(
        "try",
        help="try a server behind the proxy, and print settings for it",
        usage="%(prog)s [--timeout SECONDS] [--body FILE ...] -- COMMAND ...",
        description="Start a server by COMMAND, claim it cold and warm, and print a settings file "
        "with what was found and how long it took.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_body_arguments(parser)
    parser.add_argument(
        "--timeout",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="for each start, and for the warming (default: 300)",
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="starts the server")
    parser.set_defaults(run=run)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < 86_400:
        raise ValueError
    return seconds


def run(args: argparse.Namespace) -> int:
    """Raises `SettingsError` and `ProxyError`, which the command line prints."""
    body = build_body(args, os.environ)
    return asyncio.run(_tried(args.command, body, args.timeout))


async def _tried(command: list[str], body: Mapping[str, Any], limit: float) -> int:
    from proxy.commands.trying.look import look  # noqa: PLC0415  not for --help
    from proxy.commands.trying.printed import printed, settings_of  # noqa: PLC0415  not for --help

    port = _free_port() if any(_PORT in word for word in command) else None
    argv = [word.replace(_PORT, str(port)) for word in command]
    _say("starting it by itself ...")
    found = await look(argv, limit)
    what = f"answers {found.path} with {found.status}" if found.path else "listens"
    _say(f"it {what} at {found.listener.url} after {found.seconds:g} s")
    upstream = settings_of(argv, found, found.listener.url)
    _say("claiming it cold ...")
    cold = await _claimed(upstream | {"dormancy": "cold"}, body, limit)
    _say(f"ready after {cold.seconds:g} s; warming it, which takes some starts ...")
    warming = {"dormancy": "auto", "preload": {"timeout": limit}}
    warm = await _claimed(upstream | warming, body, limit)
    _say(f"ready after {warm.seconds:g} s, {warm.kind}{f': {warm.why}' if warm.why else ''}")
    if port is not None:
        plain = [word.replace(_PORT, str(_PRINTED_PORT)) for word in command]
        upstream |= {"command": plain, "url": f"http://127.0.0.1:{_PRINTED_PORT}"}
    print(printed(upstream, found, cold, warm), end="")  # noqa: T201  the command's answer
    return 0


async def _claimed(upstream: dict[str, Any], body: Mapping[str, Any], limit: float) -> Claim:
    from proxy.commands.trying.claim import claim  # noqa: PLC0415  not for --help

    with tempfile.TemporaryDirectory(prefix="try-") as directory:
        return await claim({"upstream": upstream}, body, Path(directory), limit)


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  progress
