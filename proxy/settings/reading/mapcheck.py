"""The rules between the keys of `upstream.mapping`."""

from __future__ import annotations

import dataclasses
import math
import re
from typing import TYPE_CHECKING, Any, Final

from proxy.settings.mapping import INIT_FIELDS
from proxy.settings.reading.faults import Fault, did_you_mean, dotted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.mapping import (
        Encoding,
        FieldKind,
        FieldMapping,
        FileMapping,
        MappingSettings,
    )
    from proxy.settings.reading.faults import Path

# The gate decides about these before any others (lifecycle/gate.py).
OWN_PATHS: Final = frozenset({"/api/init", "/health", "/ready"})

_HERE: Final = ("upstream", "mapping")
_FLAT_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_FROM_VARIABLE: Final = re.compile(r"\$\{[A-Za-z_][A-Za-z0-9_]*:-[^{}]*\}")
_RUN_DIR: Final = "{run_dir}"

_ENCODINGS: Final[dict[FieldKind, tuple[Encoding, ...]]] = {
    "text": ("text", "json"),
    "texts": ("json", "comma", "lines", "indexed"),
    "objects": ("json",),
    "variables": ("text",),
}


def check_mapping(mapping: MappingSettings) -> Iterator[Fault]:
    files = (*_HERE, "files")
    for name, field in mapping.fields.items():
        path = (*_HERE, "fields", name)
        about = (path, (*files, field.file)) if field.file is not None else (path,)
        for fault in _mapped(path, name, field, mapping):
            yield dataclasses.replace(fault, about=about)
    for name, file in mapping.files.items():
        for fault in _file((*files, name), file):
            yield dataclasses.replace(fault, about=((*files, name),))
    yield from _paths(mapping)
    yield from _twice(mapping)


def _paths(mapping: MappingSettings) -> Iterator[Fault]:
    """Raw paths that the gate compares: one that is ours already, or can never be met."""
    named: list[tuple[Path, tuple[str, ...]]] = [((*_HERE, "alive_paths"), mapping.alive_paths)]
    if mapping.native is not None:
        named.append(((*_HERE, "native", "open_paths"), mapping.native.open_paths))
    for where, paths in named:
        for index, path in enumerate(paths):
            if path in OWN_PATHS:
                yield Fault((*where, index), f"{path} is answered by the proxy in every state")
            elif "?" in path:
                yield Fault((*where, index), "must be a path without a query")


def _mapped(
    path: Path, name: str, field: FieldMapping, mapping: MappingSettings
) -> Iterator[Fault]:
    if name not in INIT_FIELDS:
        yield Fault(path, "is no field of the init request", did_you_mean(name, INIT_FIELDS))
    elif name == "env":
        yield from _variables(path, field, mapping)
    else:
        yield from _field(path, name, field, mapping)


def _field(path: Path, name: str, field: FieldMapping, mapping: MappingSettings) -> Iterator[Fault]:
    if field.env is None and field.file is None:
        yield Fault(path, "goes nowhere", "give env, file, or both")
    if field.file is None and field.key is not None:
        yield Fault((*path, "key"), "is a place in a file, and no file is given")
    yield from _file_exists(path, field, mapping)
    file = mapping.files.get(field.file or "")
    encodings = _ENCODINGS[INIT_FIELDS[name]]
    as_text = field.env is not None or (file is not None and file.format == "dotenv")
    if as_text and field.encode not in encodings:
        yield Fault(
            (*path, "encode"),
            f"cannot be {field.encode} for {name}",
            f"must be one of {', '.join(encodings)}" if len(encodings) > 1 else "must be json",
        )
    if file is not None and field.key is not None:
        yield from _key((*path, "key"), field.key, file)


def _key(path: Path, key: str, file: FileMapping) -> Iterator[Fault]:
    if file.format == "dotenv" and not _FLAT_NAME.fullmatch(key):
        yield Fault(path, "must be a plain variable name in a dotenv file", "letters, digits and _")
    elif not all(key.split(".")):
        yield Fault(path, "has an empty part", "keys are separated by single dots")


def _variables(path: Path, field: FieldMapping, mapping: MappingSettings) -> Iterator[Fault]:
    """`env` is delivered as variables in any case; a dotenv file is all that can be added."""
    yield from _file_exists(path, field, mapping)
    file = mapping.files.get(field.file or "")
    if field.file is None or (file is not None and file.format != "dotenv"):
        yield Fault(
            (*path, "file"),
            "must be a file of format dotenv",
            "leave the field out to have its variables in the process environment alone",
        )
    for key in ("env", "key"):
        if getattr(field, key) is not None:
            yield Fault((*path, key), "cannot be given: the variables have names of their own")
    if field.encode != "text":
        yield Fault((*path, "encode"), "cannot be given: the variables are text")


def _file_exists(path: Path, field: FieldMapping, mapping: MappingSettings) -> Iterator[Fault]:
    if field.file is not None and field.file not in mapping.files:
        hint = did_you_mean(field.file, mapping.files) or "its path goes under mapping.files"
        yield Fault((*path, "file"), f"no file {field.file!r} is under mapping.files", hint)


def _file(path: Path, file: FileMapping) -> Iterator[Fault]:
    yield from _file_path((*path, "path"), file.path)
    if file.base_file is not None:
        yield from _base_file((*path, "base_file"), file.base_file, file)
    for key, value in file.base.items():
        place = (*path, "base", key)
        if file.format == "dotenv" and not isinstance(value, str):
            yield Fault(place, "must be text in a dotenv file", "write it in quotes")
        elif file.format == "dotenv" and not _FLAT_NAME.fullmatch(key):
            yield Fault(place, "must be a plain variable name", "letters, digits and _")
        elif not _finite(value):
            yield Fault(place, "has a number that is not finite")


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


def _file_path(path: Path, text: str) -> Iterator[Fault]:
    plain = text.replace(_RUN_DIR, "", 1) if text.startswith(f"{_RUN_DIR}/") else text
    if "{" in plain or "}" in plain:
        yield Fault(path, "has braces", "the only placeholder is {run_dir}, at the beginning")
    elif not plain.startswith("/") or plain.endswith("/"):
        yield Fault(path, "must be an absolute path to a file", "or begin with {run_dir}/")
    elif ".." in plain.split("/"):
        yield Fault(path, "cannot have .. in it")


def _twice(mapping: MappingSettings) -> Iterator[Fault]:
    """What two fields or files would both write."""
    variables = list(_names(mapping))
    for index, (path, name, indexed) in enumerate(variables):
        for earlier, other, other_indexed in variables[:index]:
            if _covers(name, other, indexed=indexed) or _covers(other, name, indexed=other_indexed):
                yield Fault(path, f"{name} is set by {dotted(earlier[2:])} already")
                break
    places: list[tuple[str, str, str]] = []
    for name, field in mapping.fields.items():
        if field.file is None or name == "env":
            continue
        key = field.key or name
        for file, other_key, other in places:
            both = f"{key}.", f"{other_key}."
            if file == field.file and (both[0].startswith(both[1]) or both[1].startswith(both[0])):
                yield Fault((*_HERE, "fields", name, "key"), f"{key} is written by {other} already")
        places.append((field.file, key, name))
    files: dict[str, str] = {}
    for name, described in mapping.files.items():
        if described.path in files:
            where = (*_HERE, "files", name, "path")
            yield Fault(where, f"is the path of {files[described.path]} already")
        files.setdefault(described.path, name)


def _names(mapping: MappingSettings) -> Iterator[tuple[Path, str, bool]]:
    """Every variable that is set: where it says so, its name, and whether numbers follow."""
    for name, field in mapping.fields.items():
        if field.env is not None and name != "env":
            yield (*_HERE, "fields", name, "env"), field.env, field.encode == "indexed"
    for name, file in mapping.files.items():
        if file.env is not None:
            yield (*_HERE, "files", name, "env"), file.env, False
    for variable in mapping.native.switch if mapping.native is not None else ():
        yield (*_HERE, "native", "switch", variable), variable, False


def _covers(name: str, other: str, *, indexed: bool) -> bool:
    """Whether writing `name` writes the variable `other`."""
    if name == other:
        return True
    return indexed and re.fullmatch(re.escape(name) + r"_\d+", other) is not None
