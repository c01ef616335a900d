"""`init`: an orchestrator's call, with progress, for people and scripts."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from proxy.commands.initbody import add_body_arguments, build_body, read_bounded
from proxy.commands.target import add_url
from proxy.errors import SettingsError

if TYPE_CHECKING:
    import argparse

    from proxy.client import InitClient, InitStatus

# Seconds between two looks at a running activation; a person sees it move, nobody feels it.
_LOOK: Final = 0.2

_EPILOG: Final = """\
The key is that of the proxy's init.key: from the environment variable OH_SECRET_KEY, or from a
file. Prints the final status as JSON on standard output and progress on standard error. Ends with
0 when the server is ready, 1 when it is not, 2 when the command line or a file is wrong.
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "init",
        help="activate a dormant proxy",
        description="Deliver a user's environment and configuration, and wait until the server "
        "is ready. Options win over --body, --env over --env-file.",
        epilog=_EPILOG,
    )
    add_url(parser)
    parser.add_argument("--key-file", metavar="FILE", help="file with the key ('-': stdin)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop waiting then; the activation goes on (default: the proxy's own deadline)",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    add_body_arguments(parser)
    parser.set_defaults(run=run)


def seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def run(args: argparse.Namespace) -> int:
    """Raises `SettingsError` (usage) and `ClientError`, which the command line prints."""
    if [args.key_file, args.body, *args.env_file].count("-") > 1:
        raise SettingsError(["only one of --key-file, --body and --env-file can be '-'"])
    key = _key(args.key_file)
    body = build_body(args, os.environ)
    return asyncio.run(_init(args.url, key, body, timeout=args.timeout, quiet=args.quiet))


def _key(file: str | None) -> str | None:
    if file is None:
        where, key = "OH_SECRET_KEY", os.environ.get("OH_SECRET_KEY")
    else:
        # Editors and `echo` end a file with a line break, which is no part of the key.
        where, key = f"--key-file: {file}", read_bounded(file, "--key-file").rstrip("\r\n")
        if not key.strip():
            raise SettingsError([f"{where}: holds no key"])
    if key is not None and (not key.isprintable() or key != key.strip()):
        raise SettingsError(
            [f"{where}: has white space around the key, or control characters in it"]
        )
    return key


async def _init(
    url: str,
    key: str | None,
    body: dict[str, Any],
    *,
    timeout: float | None,  # noqa: ASYNC109  ends the waiting, not the activation
    quiet: bool,
) -> int:
    from proxy.client import ActivationFailedError, InitClient  # noqa: PLC0415  not for --help

    async with InitClient(url, key) as client:
        progress = asyncio.create_task(_report(client, quiet=quiet), name="progress")
        try:
            status = await client.init(body, timeout=timeout)
        except ActivationFailedError as error:
            _print_status(error.left)
            raise
        except asyncio.CancelledError:
            _say("interrupted; an activation that has begun goes on")
            raise
        finally:
            progress.cancel()
            # Its own failures are the call's as well, which reports them.
            await asyncio.gather(progress, return_exceptions=True)
    _print_status(status)
    return 0


def _print_status(status: InitStatus) -> None:
    print(json.dumps(status.as_json()))  # noqa: T201  the command's answer


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  for the person who waits


async def _report(client: InitClient, *, quiet: bool) -> None:
    """Say on standard error what the activation is at, a line each change."""
    if quiet:
        return
    begun = time.monotonic()
    async with aclosing(client.changes(details=True, interval=_LOOK)) as changes:
        async for status in changes:
            if status.state != "dormant":
                phase = status.details.get("phase")
                _say(
                    f"{time.monotonic() - begun:6.1f} s  {status.state}"
                    + (f": {phase}" if phase else "")
                )
