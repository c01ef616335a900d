"""What the controller asks for, checked: every fault names the field, never a value of env or file.

Text becomes bytes by UTF-8 with surrogate escapes whatever the locale, so that names and values
that are no UTF-8 pass through JSON unharmed.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import math
import re
import signal

from ..errors import LaunchError
from .command import without_env

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_VARIABLE = re.compile(rb"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

GRACE_LIMIT = 86400.0  # seconds; longer is a mistake


class FileSpec:
    """One file to write: `mode` is exact; `base_file` is JSON that lies under `content`."""

    __slots__ = ("base_file", "content", "mode", "path")

    def __init__(self, path: str, content: bytes, mode: int, base_file: str | None) -> None:
        self.path = path
        self.content = content
        self.mode = mode
        self.base_file = base_file


class Base:
    """What is known before an init: which command, in which directories and environment."""

    __slots__ = ("argv", "assigned", "base_env", "base_unset", "cwd", "run_dir")

    def __init__(self, message: Mapping[str, Any]) -> None:
        argv = _strings(message, "argv")
        if not argv or not argv[0]:
            raise LaunchError("argv must name a program")
        # The command's own variables: no environment that it is given has a say in them.
        self.argv, self.assigned = without_env(argv)
        self.cwd = _optional_text(message, "cwd")
        self.base_env = dict(_environment(message, "base_env"), **self.assigned)
        self.base_unset = _strings(message, "base_unset", [])
        self.run_dir = _optional_text(message, "run_dir")


class Spec(Base):
    """Everything that one start needs."""

    __slots__ = ("env", "files", "unset")

    def __init__(self, message: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.unset = _strings(message, "unset", [])
        given, own = _environment(message, "env"), self.assigned
        self.env = {name: value for name, value in given.items() if name not in own}
        self.env.update({name: value for name, value in own.items() if self.removes(name)})
        self.files = _files(message)

    def environment(self, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        """Inherited - base_unset + base_env - unset + env; the unset ones are patterns."""
        result = _without(self._before(inherited), self.unset)
        result.update({raw(name): raw(value) for name, value in self.env.items()})
        return result

    def names(self, inherited: Mapping[bytes, bytes]) -> list[str]:
        """Those of `environment`, in order."""
        return sorted(n.decode("utf-8", "surrogateescape") for n in self.environment(inherited))

    def removes(self, name: str) -> bool:
        """Whether `environment` has no inherited `name`."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.unset)

    def located_files(self, inherited: Mapping[bytes, bytes]) -> list[FileSpec]:
        """The files, with `${NAME}` and `${NAME:-default}` in `base_file` replaced.

        The environment is the one before anything was delivered: what the deployment had set. A
        variable that is unset or empty gives the default; an empty path means no base file.
        """
        before = self._before(inherited)
        return [_located(file, before) for file in self.files]

    def _before(self, inherited: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
        result = _without(inherited, self.base_unset)
        result.update({raw(name): raw(value) for name, value in self.base_env.items()})
        return result


def _located(file: FileSpec, env: Mapping[bytes, bytes]) -> FileSpec:
    if file.base_file is None:
        return file

    def value(found: re.Match[bytes]) -> bytes:
        return env.get(found[1]) or found[2] or b""

    path = _VARIABLE.sub(value, raw(file.base_file)).decode("utf-8", "surrogateescape")
    return FileSpec(file.path, file.content, file.mode, path or None)


def raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def grace(message: Mapping[str, Any], default: float) -> float:
    """The optional field `grace`, in seconds."""
    value = message.get("grace", default)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise LaunchError("grace must be a number of seconds")
    if not (math.isfinite(value) and 0 <= value <= GRACE_LIMIT):
        raise LaunchError("grace must be from 0 to %d seconds" % GRACE_LIMIT)
    return float(value)


def signal_number(message: Mapping[str, Any], default: int) -> int:
    """The optional field `signal`, a name."""
    name = message.get("signal", default)
    number = signal.Signals.__members__.get(name, default) if isinstance(name, str) else name
    if not isinstance(number, int) or isinstance(number, bool):
        raise LaunchError("signal must be the name of a signal")
    return int(number)


def _without(env: Mapping[bytes, bytes], patterns: list[str]) -> dict[bytes, bytes]:
    names = {name: name.decode("utf-8", "surrogateescape") for name in env}
    return {
        name: value
        for name, value in env.items()
        if not any(fnmatch.fnmatchcase(names[name], pattern) for pattern in patterns)
    }


def _text(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise LaunchError(where + " must be a string")
    if "\0" in value:
        raise LaunchError(where + " must not contain NUL")
    try:
        raw(value)
    except UnicodeEncodeError:
        raise LaunchError(where + " must be encodable as UTF-8") from None
    return value


def _optional_text(message: Mapping[str, Any], field: str) -> str | None:
    value = message.get(field)
    if value is None:
        return None
    if not _text(value, field):
        raise LaunchError(field + " must not be empty")
    return str(value)


def _strings(message: Mapping[str, Any], field: str, default: list[str] | None = None) -> list[str]:
    value = message.get(field, default)
    if not isinstance(value, list):
        raise LaunchError(field + " must be a list of strings")
    return [_text(item, "%s[%d]" % (field, index)) for index, item in enumerate(value)]


def _environment(message: Mapping[str, Any], field: str) -> dict[str, str]:
    value = message.get(field, {})
    if not isinstance(value, dict):
        raise LaunchError(field + " must be an object")
    for name, text in value.items():
        if not _text(name, field + ": a name") or "=" in name:
            raise LaunchError("%s: %r is not a name" % (field, name))
        _text(text, "%s: %s" % (field, name))
    return value


def _files(message: Mapping[str, Any]) -> list[FileSpec]:
    value = message.get("files", [])
    if not isinstance(value, list):
        raise LaunchError("files must be a list of objects")
    return [_file(item, "files[%d]" % index) for index, item in enumerate(value)]


def _file(item: object, where: str) -> FileSpec:
    if not isinstance(item, dict):
        raise LaunchError(where + " must be an object")
    path = _text(item.get("path"), where + ".path")
    mode = item.get("mode", 0o600)
    if not path:
        raise LaunchError(where + ".path must not be empty")
    if isinstance(mode, bool) or not isinstance(mode, int) or not 0 <= mode <= 0o777:
        raise LaunchError(where + ".mode must be a number from 0 to 0777 (octal)")
    base = item.get("base_file")
    if base is not None and not _text(base, where + ".base_file"):
        raise LaunchError(where + ".base_file must not be empty")
    try:
        content = base64.b64decode(_text(item.get("content"), where + ".content"), validate=True)
    except (binascii.Error, ValueError):
        raise LaunchError(where + ".content must be base64") from None
    return FileSpec(path, content, mode, base)
