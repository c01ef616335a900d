"""The command line: `deferred-init-proxy COMMAND` and `python -m proxy COMMAND`.

A command is a module of `proxy.commands` with `add_parser(subparsers)` and `run(args)`. Only the
one that is asked for is imported, so that a dormant pod does not carry the others.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from typing import Final, Protocol, cast

from proxy import __version__
from proxy.early import remember_signals
from proxy.errors import ProxyError, SettingsError

COMMANDS: Final = (
    *("serve", "demo", "init", "status", "check", "schema", "openapi", "record"),
    "install-launcher",
)

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2


class Command(Protocol):
    def add_parser(self, subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
        """Add the command's parser; `run` becomes its default."""


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit code (0 fine, 1 failed, 2 usage or settings)."""
    arguments = sys.argv[1:] if argv is None else argv
    if argv is None:  # a process of its own
        remember_signals(arguments)
    args = _parser(arguments[:1]).parse_args(arguments)
    try:
        return int(args.run(args))
    except SettingsError as error:
        for fault in error.faults:
            print(f"error: {fault}", file=sys.stderr)  # noqa: T201  a command's answer
        return USAGE
    except ProxyError as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201  a command's answer
        return FAILED
    except KeyboardInterrupt:
        return 130


def _parser(asked: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="deferred-init-proxy",
        description="Give any unmodified agent server the deferred-init (warm-pool) life cycle.",
        epilog="Start with: deferred-init-proxy demo",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in asked if asked and asked[0] in COMMANDS else COMMANDS:
        module = importlib.import_module(f"proxy.commands.{name.replace('-', '_')}")
        cast("Command", module).add_parser(subparsers)
    return parser


if __name__ == "__main__":
    sys.exit(main())
