"""Reads an upstream's command line as the interpreter would, for the fork server to repeat.

`parse` understands `python [flags] -m module …`, `python [flags] script.py …`, a script with a
Python shebang (console scripts) and any of these behind a small init (`tini --`), whose only work,
reaping, the launcher does itself. Everything else is `Unsuitable`: started cold, with the reason.
"""

from __future__ import annotations

import os
import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Mapping

INITS = frozenset({"tini", "tini-static", "dumb-init", "catatonit"})
PLAIN_FLAGS = frozenset("bBdEIOPqRsSu")  # of one letter, without a value, safe to repeat
# What these print or ask for concerns the imports or the terminal, which a fork has no part in.
COLD_X = ("importtime", "showrefcount", "help")
_PYTHON = re.compile(r"^python(\d+(\.\d+)?)?$")
_POLYGLOT = re.compile(rb"""^'''exec' (?:"([^"]+)"|(\S+)) "\$0" "\$@"$""")
_SHEBANG_LIMIT = 4096  # bytes of a script that are looked at


class Unsuitable(Exception):  # noqa: N818  reads as what it says of a command
    """This command cannot be started by a fork; the text says why."""


class Command:
    """`kind` is "module" or "script"; `target` the module's name or the script's path.

    `argv` is what the interpreter itself is started with (`sys.orig_argv`); `flags` are those of
    its own, without `-m`.
    """

    __slots__ = ("args", "argv", "flags", "kind", "name", "target")

    def __init__(
        self, argv: list[str], flags: list[str], kind: str, target: str, args: list[str]
    ) -> None:
        self.name = os.path.basename(argv[0])  # what the kernel calls the process
        self.argv = argv
        self.flags = flags
        self.kind = kind
        self.target = target
        self.args = args

    def to_json(self) -> dict[str, Any]:
        return {slot: getattr(self, slot) for slot in self.__slots__}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Command:
        return cls(data["argv"], data["flags"], data["kind"], data["target"], data["args"])


def parse(argv: list[str], cwd: str | None, path: str | None) -> Command:
    """The command of `argv` started in `cwd` with `path` as PATH. Raises `Unsuitable`."""
    argv = _without_init(argv)
    if _PYTHON.match(os.path.basename(argv[0])):
        return _options(argv)
    command = _options(_shebang(argv, cwd, path))
    command.name = os.path.basename(argv[0])
    return command


def without_env(argv: list[str]) -> tuple[list[str], dict[str, str]]:
    """What `env NAME=VALUE … program …` starts, and the variables that it sets.

    With options, or without a program, it stays what it is.
    """
    if os.path.basename(argv[0]) != "env":
        return argv, {}
    assigned: dict[str, str] = {}
    for index, word in enumerate(argv[1:], 1):
        name, equals, value = word.partition("=")
        if not equals or not name:
            return (argv, {}) if word.startswith("-") else (argv[index:], assigned)
        assigned[name] = value
    return argv, {}


def _without_init(argv: list[str]) -> list[str]:
    if os.path.basename(argv[0]) not in INITS:
        return argv
    for index, item in enumerate(argv[1:], 1):
        if item == "--" or not item.startswith("-"):
            rest = argv[index + 1 :] if item == "--" else argv[index:]
            if rest:
                return rest
            break
    raise Unsuitable("%s is given no command" % argv[0])


def _shebang(argv: list[str], cwd: str | None, path: str | None) -> list[str]:
    """The command that the kernel makes of a script: interpreter, its one argument, the script."""
    program = argv[0] if os.sep in argv[0] else _which(argv[0], path)
    if program is None:
        raise Unsuitable("%s is not found" % argv[0])
    try:
        with open(os.path.join(cwd or "", program), "rb") as script:
            lines = script.read(_SHEBANG_LIMIT).split(b"\n")
    except OSError as error:
        raise Unsuitable("cannot read %s: %s" % (program, error.strerror)) from None
    if not lines[0].startswith(b"#!"):
        raise Unsuitable("%s is not a Python script" % program)
    words = os.fsdecode(lines[0][2:]).strip().split(None, 1)
    if words[:1] == ["/bin/sh"] and len(lines) > 1:
        # What installers write when the interpreter's path is too long for a shebang.
        found = _POLYGLOT.match(lines[1].strip())
        words = [os.fsdecode(found.group(1) or found.group(2))] if found else []
    elif len(words) == 2 and os.path.basename(words[0]) == "env":
        words = words[1][2:].split() if words[1].startswith("-S") else [words[1]]
    if not words or not _PYTHON.match(os.path.basename(words[0])):
        raise Unsuitable("%s is not a Python script" % program)
    return [*words, program, *argv[1:]]


def _which(name: str, path: str | None) -> str | None:
    for directory in (path or os.defpath).split(os.pathsep):
        found = os.path.join(directory or ".", name)
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return None


def _options(argv: list[str]) -> Command:
    """Split the interpreter's own options from what it is to run."""
    flags: list[str] = []
    rest = argv[1:]
    while rest:
        item = rest.pop(0)
        if item == "--check-hash-based-pycs" and rest:
            flags += [item, rest.pop(0)]
        elif not item.startswith("-") or item == "-":
            return Command(argv, flags, "script", _script(item), rest)
        else:
            module = _letters(item, rest, flags)
            if module is not None:
                return Command(argv, flags, "module", module, rest)
    raise Unsuitable("the interpreter is given no program")


def _letters(item: str, rest: list[str], flags: list[str]) -> str | None:
    """Take one group of short options; returns the module's name once `-m` is met."""
    for index, letter in enumerate(item[1:], 1):
        if letter in PLAIN_FLAGS:
            flags.append("-" + letter)
        elif letter in "mWX":
            value = item[index + 1 :] or (rest.pop(0) if rest else "")
            if not value:
                raise Unsuitable("-%s is given no value" % letter)
            if letter == "m":
                return value
            if letter == "X" and value.startswith(COLD_X):
                raise Unsuitable("-X %s is not available to a fork" % value)
            flags += ["-" + letter, value]
            break
        else:
            raise Unsuitable("option -%s of the interpreter is not available to a fork" % letter)
    return None


def _script(path: str) -> str:
    if path == "-":
        raise Unsuitable("the program is read from standard input")
    if path.endswith(".pyc"):
        raise Unsuitable("%s is compiled" % path)
    return path
