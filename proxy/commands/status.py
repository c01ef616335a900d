"""`status`: what state a proxy is in, and every change of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING

from proxy.commands.orchestrating.target import add_url

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "status",
        help="print the state of a proxy",
        description="Print the state of a proxy: a line for a person on a terminal, else one "
        "JSON object. Ends with 1 when the proxy cannot be reached or has no deferred init.",
    )
    add_url(parser)
    parser.add_argument("--details", action="store_true", help="print all that the proxy tells")
    parser.add_argument(
        "--watch",
        action="store_true",
        help="print every change as it comes, until interrupted or the proxy is gone",
    )
    parser.add_argument("--json", action="store_true", help="print JSON on a terminal too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises `ClientError`, which the command line prints."""
    person = sys.stdout.isatty() and not args.json
    try:
        return asyncio.run(
            _show(args.url, details=args.details or person, watch=args.watch, person=person)
        )
    except BrokenPipeError:
        # Whoever read has read enough; the interpreter must not flush into the pipe at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


async def _show(url: str, *, details: bool, watch: bool, person: bool) -> int:
    from proxy.client import InitClient  # noqa: PLC0415  not for --help
    from proxy.commands.orchestrating.progress import summary  # noqa: PLC0415  not for --help

    async with InitClient(url) as client, aclosing(client.changes(details=details)) as changes:
        async for status in changes:
            text = summary(status) if person else json.dumps(status.as_json())
            print(text, flush=True)  # noqa: T201  the command's answer
            if not watch:
                break
    return 0
