"""Finds the Python interpreter that a command runs with, for the launcher to share it.

A guess, and meant as one: whoever uses it tries it and falls back to the proxy's own interpreter.
Symbolic links are kept as they are, because a virtual environment is known by the link's place.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from proxy.activation.launched.messages import without
from proxy.launcher.session.command import without_env

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from proxy.settings import UpstreamSettings

_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*t?")
# The kernel reads no more of a script's first line; installers' longer forms take a second one.
_HEAD: Final = 1024
_EXEC_TRICK: Final = "'''exec' "


def interpreters(upstream: UpstreamSettings, environ: Mapping[str, str]) -> list[str]:
    """Those to try the launcher with: the upstream's, where there is one, and ours."""
    env = without(environ, upstream.deny_env) | upstream.env
    found = find_interpreter(upstream.command, env, upstream.cwd)
    return list(dict.fromkeys(filter(None, (found, sys.executable))))


def find_interpreter(
    command: Sequence[str], env: Mapping[str, str], cwd: str | None = None
) -> str | None:
    """The interpreter of `command`, run in `env` and `cwd`; None when it is no Python program.

    Understands an interpreter by its name, what `env` starts, and a script by its first line
    (`#!/path/python`, `#!/usr/bin/env python3`, and the two-line form that installers use for long
    paths).
    """
    command, assigned = without_env(list(command))
    env = {**env, **assigned}
    program = _resolve(command[0], env, cwd)
    if program is None or _is_python(program):
        return program
    named = _from_script(program)
    return _resolve(named, env, cwd) if named is not None else None


def _resolve(program: str, env: Mapping[str, str], cwd: str | None) -> str | None:
    """The absolute path of an executable, looked for as execvp(3) does."""
    start = Path(cwd or ".").absolute()
    if "/" in program:
        return shutil.which(str(start / program))
    path = env.get("PATH", os.defpath)
    return shutil.which(program, path=os.pathsep.join(str(start / p) for p in path.split(":")))


def _is_python(program: str) -> bool:
    return _PYTHON.fullmatch(Path(program).name) is not None


def _from_script(path: str) -> str | None:
    try:
        with Path(path).open("rb") as script:
            lines = script.read(_HEAD).decode("utf-8", "replace").splitlines()
    except OSError:
        return None
    if not lines or not lines[0].startswith("#!"):
        return None
    words = _words(lines[0][2:])
    if words and Path(words[0]).name == "env":
        words = [word for word in words[1:] if not word.startswith("-") and "=" not in word]
    elif words and Path(words[0]).name == "sh" and lines[1:] and lines[1].startswith(_EXEC_TRICK):
        words = _words(lines[1].removeprefix(_EXEC_TRICK))
    return words[0] if words and _is_python(words[0]) else None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quote
        return []
