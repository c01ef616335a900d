"""The command line: `deferred-init-proxy COMMAND` and `python -m proxy COMMAND`.

A command is a module of `proxy.commands` with `add_parser(subparsers)` and `run(args)`. Only the
one that is asked for is imported, so that a dormant pod does not carry the others.
"""

from __future__ import annotations

import argparse
import importlib
import keyword
import re
import sys
from typing import TYPE_CHECKING, Final, Protocol, cast

from proxy import __version__
from proxy.errors import ProxyError, SettingsError
from proxy.server.early import ensure_standard_streams, remember_signals

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMANDS: Final = (
    *("serve", "demo", "try", "init", "status", "check", "schema", "openapi", "record"),
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
        ensure_standard_streams()
    args = _read(arguments)
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


def _read(arguments: list[str]) -> argparse.Namespace:
    """The command line, read; what is wrong with it ends the process with `USAGE`."""
    if arguments[:1] == ["help"]:
        arguments = [*arguments[1:2], "--help"]
    parser, commands = _parser(arguments[:1])
    if not arguments:
        parser.print_help(sys.stderr)
        raise SystemExit(USAGE)
    name = arguments[0]
    if not name.startswith("-") and name not in COMMANDS:
        parser.error(f"there is no command {name!r}{_hint(name, COMMANDS)}")
    args, unknown = parser.parse_known_args(arguments)
    asked = commands.choices.get(name, parser)
    if unknown:
        asked.error(f"unrecognized arguments: {' '.join(unknown)}{_meant(unknown[0], asked)}")
    if "--" in arguments[-1:] and arguments.index("--") == len(arguments) - 1:
        # Most likely a variable of the shell's that is empty.
        asked.error("no command follows '--'")
    return args


def command(name: str) -> Command:
    """The module of one of `COMMANDS`."""
    plain = name.replace("-", "_") + ("_" if keyword.iskeyword(name) else "")
    return cast("Command", importlib.import_module(f"proxy.commands.{plain}"))


def _meant(unknown: str, parser: argparse.ArgumentParser) -> str:
    """What an argument that the parser does not know was probably meant to be."""
    text = parser.format_help()
    given = unknown.partition("=")[0]
    # Only where options are listed: examples have those of other programs.
    options = re.findall(r"(?m)^ +(?:-\w(?: \w+)?, )?(--[a-z-]+)", text)
    hint = _hint(given, options) if given.startswith("--") else ""
    return hint or ("; the agent server's command goes after '--'" if "-- COMMAND" in text else "")


def _hint(given: str, known: Iterable[str]) -> str:
    import difflib  # noqa: PLC0415  only for whoever mistypes

    near = difflib.get_close_matches(given, known, 1)
    return f"; did you mean {near[0]}?" if near else ""


def _parser(
    asked: list[str],
) -> tuple[argparse.ArgumentParser, argparse._SubParsersAction[argparse.ArgumentParser]]:
    """The parser, and the commands in it: `asked` alone, if that is one."""
    parser = argparse.ArgumentParser(
        prog="deferred-init-proxy",
        description="Give any unmodified agent server the deferred-init (warm-pool) life cycle.",
        epilog="Start with: deferred-init-proxy demo\n"
        "What a command does in full: deferred-init-proxy COMMAND --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in asked if asked and asked[0] in COMMANDS else COMMANDS:
        command(name).add_parser(subparsers)
    return parser, subparsers


if __name__ == "__main__":
    sys.exit(main())
