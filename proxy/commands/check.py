"""`check`: validate settings without starting anything."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "check",
        help="validate settings",
        description="Validate FILE together with the environment (PROXY_..., OH_DEFERRED_INIT, "
        "OH_SECRET_KEY), as 'serve --config FILE' would read them here; without FILE, the "
        "environment alone. Prints every fault with its place and ends with 2, or says ok.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="YAML settings")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises `SettingsError`, which the command line prints a line a fault."""
    from proxy.settings import load_settings  # noqa: PLC0415  the other commands need none

    settings = load_settings(args.file, os.environ)
    key = settings.init.key
    if settings.deferred_init and key is not None and not key.get_secret_value().strip():
        print("note: init.key is blank, so every init is refused", file=sys.stderr)  # noqa: T201
    for number, argument in enumerate(settings.upstream.argv):
        for place in argument.places:
            shown = f"upstream.command[{number}] shows {place} to whoever can list processes"
            print(f"note: {shown}", file=sys.stderr)  # noqa: T201
    print(f"{args.file or 'environment'}: ok")  # noqa: T201  the command's answer
    return 0
