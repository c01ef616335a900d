"""`init`: an orchestrator's call, with progress, for people and scripts."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import uuid
from typing import TYPE_CHECKING, Any, Final

from proxy.commands.orchestrating.initbody import add_body_arguments, build_body, read_bounded
from proxy.commands.orchestrating.target import add_url
from proxy.errors import SettingsError

if TYPE_CHECKING:
    from proxy.client import AnswerError, ClientError, InitStatus

_EPILOG: Final = """\
The key is that of the proxy's init.key: from the environment variable OH_SECRET_KEY, or from a
file.

The request carries a claim id, so it is sent again when its answer is lost, and joins the
activation that it began. Give --claim the id of a command that was interrupted, with the same
options, to hear of its outcome; any other claim on a server that is taken is refused.

Prints the final status on standard output (as JSON, unless that is a terminal) and progress on
standard error. Ends with 0 when the server is ready, 1 when it is not (with the server's own
words), 2 when the command line or a file is wrong, 130 when interrupted.

examples:
  deferred-init-proxy init --url http://10.0.0.7:8000 --env-file user.env
  generate-body | deferred-init-proxy init --url http://10.0.0.7:8000 --body - --json
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "init",
        help="activate a dormant proxy",
        description="Deliver a user's environment and configuration, and wait until the server is "
        "ready.\nOptions win over --body, --env over --env-file.",
        epilog=_EPILOG,
        # In full it would bury every error.
        usage="%(prog)s [--url URL] [--env-file FILE] [--body FILE] [OPTION ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_url(parser)
    parser.add_argument("--key-file", metavar="FILE", help="file with the key ('-': stdin)")
    parser.add_argument(
        "--timeout",
        type=seconds,
        metavar="SECONDS",
        help="stop waiting then; the activation goes on (default: the proxy's own deadline)",
    )
    parser.add_argument(
        "--claim", type=_claim, metavar="ID", help="id of this claim (default: a generated one)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress")
    parser.add_argument(
        "--json",
        action="store_true",
        help="one JSON object on standard output whatever happens (state, error, http_status, "
        "claim, seconds), and no progress",
    )
    add_body_arguments(parser)
    parser.set_defaults(run=run)


def seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds < float("inf"):
        raise ValueError(text)
    return seconds


def _claim(text: str) -> str:
    if not text.strip() or not (text.isascii() and text.isprintable()):
        raise argparse.ArgumentTypeError("must be printable ASCII")
    return text


def run(args: argparse.Namespace) -> int:
    """Raises `SettingsError` (usage) and `ClientError`, which the command line prints."""
    if [args.key_file, args.body, *args.env_file].count("-") > 1:
        raise SettingsError(["only one of --key-file, --body and --env-file can be '-'"])
    key = _key(args.key_file)
    body = build_body(args, os.environ)
    return asyncio.run(_init(args, key, body))


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


async def _init(args: argparse.Namespace, key: str | None, body: dict[str, Any]) -> int:
    from proxy import client as api  # noqa: PLC0415  not for --help
    from proxy.commands.orchestrating.progress import Progress  # noqa: PLC0415  not for --help

    claim = args.claim or str(uuid.uuid4())
    async with (
        api.InitClient(args.url, key) as client,
        Progress(client, quiet=args.quiet or args.json) as progress,
    ):
        try:
            status = await client.claim(
                body,
                claim_id=claim,
                timeout=args.timeout,
                on_lost=lambda error: progress.say(f"{error}; asking again"),
            )
        except api.ClientError as error:
            left = error.left if isinstance(error, api.ActivationFailedError) else None
            if args.json:
                answer = error if isinstance(error, api.AnswerError) else None
                _print_outcome(left, claim, progress.elapsed, error, answer)
                return 1
            if left is not None:
                _print_status(left)
            if not key and isinstance(error, api.AnswerError) and error.http_status == 401:
                _say("note: no key was given; set OH_SECRET_KEY or --key-file")
            raise
        except asyncio.CancelledError:
            progress.clear()
            _say("interrupted; an activation that has begun goes on")
            progress.say(f"to hear of its outcome: the same command with --claim {claim}")
            raise
    if args.json:
        _print_outcome(status, claim, progress.elapsed)
    else:
        _print_status(status)
    return 0


def _print_outcome(
    status: InitStatus | None,
    claim: str,
    seconds: float,
    error: ClientError | None = None,
    answer: AnswerError | None = None,
) -> None:
    said = answer.error if answer is not None else str(error) if error is not None else None
    outcome = {
        "state": status.state if status is not None else None,
        "error": said,
        "http_status": answer.http_status if answer is not None else (200 if status else None),
        "claim": claim,
        "seconds": round(seconds, 3),
    }
    print(json.dumps(outcome))  # noqa: T201  the command's answer


def _print_status(status: InitStatus) -> None:
    text = status.state if sys.stdout.isatty() else json.dumps(status.as_json())
    print(text)  # noqa: T201  the command's answer


def _say(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201  for the person who waits
