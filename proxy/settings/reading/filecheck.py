"""The rules of the files under `upstream.mapping`, and of the places in them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.settings.reading.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.mapping import FileMapping
    from proxy.settings.reading.faults import Path

_FLAT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_INI_NAME: Final = re.compile(r"[\w-]+\.[\w.-]+")
_FROM_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-[^{}]*\}")
_RUN_DIR: Final = "{run_dir}"


def check_file(path: Path, file: FileMapping) -> Iterator[Fault]:
    yield from _file_path((*path, "path"), file.path)
    if file.base_file is not None:
        yield from _base_file((*path, "base_file"), file.base_file, file)
    if (file.format == "raw") != (file.content is not None):
        what = "is not set" if file.content is None else "is for format: raw alone"
        yield Fault((*path, "content"), what)
    for key in ("base", "values") if file.format == "raw" else ():
        if getattr(file, key):
            yield Fault((*path, key), "has no effect with format: raw", "write it into `content`")
    if file.format in {"dotenv", "ini"}:
        yield from _flat_base((*path, "base"), file)
    for key, value in file.base.items():
        if not _finite(value):
            yield Fault((*path, "base", key), "has a number that is not finite")
        elif file.format == "toml" and _has_null(value):
            yield Fault((*path, "base", key), "has a null, for which toml has no word")
    for key in file.values:
        yield from check_key((*path, "values", key), key, file)


def check_key(path: Path, key: str, file: FileMapping) -> Iterator[Fault]:
    if file.format == "dotenv" and not _FLAT_NAME.fullmatch(key):
        yield Fault(path, "must be a plain variable name in a dotenv file", "letters, digits and _")
    elif file.format == "ini" and not _INI_NAME.fullmatch(key):
        yield Fault(path, "must be section.name in an ini file")
    elif not all(key.split(".")):
        yield Fault(path, "has an empty part", "keys are separated by single dots")


def _flat_base(path: Path, file: FileMapping) -> Iterator[Fault]:
    for key, value in file.base.items():
        place = (*path, key)
        if file.format == "ini" and isinstance(value, dict):
            for name, inner in value.items():
                yield from check_key((*place, name), f"{key}.{name}", file)
                if isinstance(inner, dict | list):
                    yield Fault((*place, name), "must be a plain value in an ini file")
        elif file.format == "ini":
            yield Fault(place, "must be a section of values in an ini file")
        elif not isinstance(value, str):
            yield Fault(place, "must be text in a dotenv file", "write it in quotes")
        elif not _FLAT_NAME.fullmatch(key):
            yield Fault(place, "must be a plain variable name", "letters, digits and _")


def _base_file(path: Path, text: str, file: FileMapping) -> Iterator[Fault]:
    if file.format != "json":
        yield Fault(path, f"cannot be given with format: {file.format}", "it is for json alone")
    if not text or ("${" in text and not _FROM_VARIABLE.fullmatch(text)):
        yield Fault(path, "must be a path, or ${NAME:-path}")


def _finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_finite, value.values()))
    if isinstance(value, list):
        return all(map(_finite, value))
    return not isinstance(value, float) or math.isfinite(value)


def _has_null(value: Any) -> bool:
    if isinstance(value, dict | list):
        return any(map(_has_null, value.values() if isinstance(value, dict) else value))
    return value is None


def _file_path(path: Path, text: str) -> Iterator[Fault]:
    plain = text.replace(_RUN_DIR, "", 1) if text.startswith(f"{_RUN_DIR}/") else text
    if "{" in plain or "}" in plain:
        yield Fault(path, "has braces", "the only placeholder is {run_dir}, at the beginning")
    elif not plain.startswith("/") or plain.endswith("/"):
        yield Fault(path, "must be an absolute path to a file", "or begin with {run_dir}/")
    elif ".." in plain.split("/"):
        yield Fault(path, "cannot have .. in it")
