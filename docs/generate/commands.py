"""`commands.md`: the command line, read off the parsers."""

from __future__ import annotations

import argparse
import textwrap
from typing import TYPE_CHECKING, Final

from docs.generate.markdown import GENERATED, table
from proxy.cli import COMMANDS, command

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """# Commands

`deferred-init-proxy COMMAND`, or `python -m proxy COMMAND`; `--help` after one tells the
same, and `--version` which one this is. What the commands end with: [Exit codes](exit-codes.md).
"""


def page() -> str:
    parser = argparse.ArgumentParser(prog="deferred-init-proxy")
    commands = parser.add_subparsers()
    for name in COMMANDS:
        command(name).add_parser(commands)
    parts = [GENERATED, _HEAD]
    for name in COMMANDS:
        parts += _command(name, commands.choices[name])
    return "".join(parts)


def _command(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    # argparse has no public list of what a parser takes.
    actions = [each for each in parser._actions if each.dest != "help"]  # noqa: SLF001
    yield f"\n## {name}\n\n"
    yield _text(parser.description or "") + "\n"
    usage = (
        parser.usage.replace("%(prog)s", parser.prog)
        if parser.usage
        else _usage(parser.prog, actions)
    )
    yield f"\n```text\n{usage}\n```\n"
    if actions:
        yield "\n" + table(["argument", "meaning"], [(_name(a), a.help or "") for a in actions])
    told, title, examples = (parser.epilog or "").partition("\nexample")
    if told.strip():
        yield "\n" + "\n\n".join(_text(part) for part in told.strip().split("\n\n")) + "\n"
    if title:
        lines = textwrap.dedent(examples.partition("\n")[2]).rstrip()
        yield f"\n```text\n{lines}\n```\n"


def _text(text: str) -> str:
    return " ".join(text.split())


def _name(action: argparse.Action) -> str:
    names = action.option_strings or [str(action.metavar or action.dest)]
    value = f" {_value(action)}" if action.option_strings and action.nargs != 0 else ""
    return ", ".join(f"`{name}{value}`" for name in names)


def _value(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _usage(program: str, actions: list[argparse.Action]) -> str:
    words = [program]
    for action in actions:
        word = " ".join(
            [*action.option_strings[-1:], *([] if action.nargs == 0 else [_value(action)])]
        )
        optional = (action.option_strings and not action.required) or action.nargs in {"?", "*"}
        words.append(f"[{word}]" if optional else word)
    return " ".join(words)
