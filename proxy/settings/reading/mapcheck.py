"""The rules between the keys of `upstream.mapping`."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Final

from proxy.settings.mapping import INIT_FIELDS, KINDS
from proxy.settings.reading.faults import Fault, did_you_mean, dotted
from proxy.settings.reading.filecheck import check_file, check_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from proxy.settings.mapping import (
        Destination,
        Encoding,
        FieldKind,
        FieldMapping,
        MappingSettings,
    )
    from proxy.settings.reading.faults import Path

_HERE: Final = ("upstream", "mapping")
_OWN_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")

_ENCODINGS: Final[dict[FieldKind, tuple[Encoding, ...]]] = {
    "text": ("text", "json"),
    "texts": ("json", "comma", "lines", "indexed"),
    "objects": ("json",),
    "variables": ("text",),
}


def check_mapping(
    mapping: MappingSettings,
    named: Collection[str] = (),
    *,
    own_paths: frozenset[str] = frozenset(),
) -> Iterator[Fault]:
    """Every fault; `named` are fields that templates have places for, `own_paths` the proxy's."""
    files = (*_HERE, "files")
    for name, field in mapping.fields.items():
        path = (*_HERE, "fields", name)
        about = (path, *((*files, to.file) for to in field.places if to.file is not None))
        for fault in (*_itself(path, name, field), *_places(path, name, field, mapping, named)):
            yield dataclasses.replace(fault, about=about)
    for name, file in mapping.files.items():
        for fault in check_file((*files, name), file):
            yield dataclasses.replace(fault, about=((*files, name),))
    yield from _paths(mapping, own_paths)
    yield from _twice(mapping)


def _paths(mapping: MappingSettings, own_paths: frozenset[str]) -> Iterator[Fault]:
    """Raw paths that the gate compares: one that is ours already, or can never be met."""
    named: list[tuple[Path, tuple[str, ...]]] = [((*_HERE, "alive_paths"), mapping.alive_paths)]
    if mapping.native is not None:
        named.append(((*_HERE, "native", "open_paths"), mapping.native.open_paths))
    for where, paths in named:
        for index, path in enumerate(paths):
            if path in own_paths:
                yield Fault((*where, index), f"{path} is answered by the proxy in every state")
            elif "?" in path:
                yield Fault((*where, index), "must be a path without a query")


def _kind(name: str, field: FieldMapping) -> FieldKind | None:
    return KINDS[field.type] if field.type is not None else INIT_FIELDS.get(name)


def _itself(path: Path, name: str, field: FieldMapping) -> Iterator[Fault]:
    if _kind(name, field) is None:
        hint = did_you_mean(name, INIT_FIELDS) or "give the `type` of a field of your own"
        yield Fault(path, "is no field of the init request", hint)
    elif name in INIT_FIELDS and field.type is not None:
        yield Fault((*path, "type"), "cannot be given: the contract knows what the field holds")
    elif name not in INIT_FIELDS and not _OWN_NAME.fullmatch(name):
        yield Fault(path, "must be a name of small letters, digits and _")
    if field.generate and (_kind(name, field) != "text" or field.type in {"path", "integer"}):
        yield Fault((*path, "generate"), "makes a text, which the field does not hold")
    elif field.generate and field.required:
        yield Fault((*path, "required"), "cannot be given with generate, which makes a value")


def _places(
    path: Path, name: str, field: FieldMapping, mapping: MappingSettings, named: Collection[str]
) -> Iterator[Fault]:
    kind = _kind(name, field)
    if kind is None:
        return
    for index, to in enumerate(field.places):
        at = (*path, "also", index - 1) if index else path
        if kind == "variables":
            yield from _variables(at, to, mapping)
        elif to.env is None and to.file is None and to.key is None and not index:
            if name not in named and not field.also:
                yield Fault(at, "goes nowhere", "give env, file, or both")
        else:
            yield from _place(at, name, kind, to, mapping)


def _place(
    path: Path, name: str, kind: FieldKind, to: Destination, mapping: MappingSettings
) -> Iterator[Fault]:
    if to.env is None and to.file is None:
        yield Fault(path, "goes nowhere", "give env, file, or both")
    if to.file is None and to.key is not None:
        yield Fault((*path, "key"), "is a place in a file, and no file is given")
    yield from _file_exists(path, to, mapping)
    file = mapping.files.get(to.file or "")
    encodings = _ENCODINGS[kind]
    as_text = to.env is not None or (file is not None and file.format in {"dotenv", "ini"})
    if as_text and to.encode not in encodings:
        yield Fault(
            (*path, "encode"),
            f"cannot be {to.encode} for {name}",
            f"must be one of {', '.join(encodings)}" if len(encodings) > 1 else "must be json",
        )
    if file is not None and file.format == "raw":
        yield Fault((*path, "file"), "is raw", f"write {{{name}}} into its `content`")
    elif file is not None and (to.key is not None or file.format == "ini"):
        yield from check_key((*path, "key"), to.key or name, file)


def _variables(path: Path, field: Destination, mapping: MappingSettings) -> Iterator[Fault]:
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


def _file_exists(path: Path, field: Destination, mapping: MappingSettings) -> Iterator[Fault]:
    if field.file is not None and field.file not in mapping.files:
        hint = did_you_mean(field.file, mapping.files) or "its path goes under mapping.files"
        yield Fault((*path, "file"), f"no file {field.file!r} is under mapping.files", hint)


def _twice(mapping: MappingSettings) -> Iterator[Fault]:
    """What two fields, templates or files would both write."""
    variables = list(_names(mapping))
    for index, (path, name, indexed) in enumerate(variables):
        for earlier, other, other_indexed in variables[:index]:
            if _covers(name, other, indexed=indexed) or _covers(other, name, indexed=other_indexed):
                yield Fault(path, f"{name} is set by {dotted(earlier[2:])} already")
                break
    places: list[tuple[str, str, str]] = []
    for path, written, key, who in _written(mapping):
        for file, other_key, other in places:
            both = f"{key}.", f"{other_key}."
            if file == written and (both[0].startswith(both[1]) or both[1].startswith(both[0])):
                yield Fault(path, f"{key} is written by {other} already")
        places.append((written, key, who))
    files: dict[str, str] = {}
    for name, described in mapping.files.items():
        if described.path in files:
            where = (*_HERE, "files", name, "path")
            yield Fault(where, f"is the path of {files[described.path]} already")
        files.setdefault(described.path, name)


def _destinations(mapping: MappingSettings) -> Iterator[tuple[Path, str, Destination]]:
    """Where it is said, the field, and the place."""
    for name, field in mapping.fields.items():
        path = (*_HERE, "fields", name)
        for index, to in enumerate(field.places if name != "env" else ()):
            yield (*path, "also", index - 1) if index else path, name, to


def _written(mapping: MappingSettings) -> Iterator[tuple[Path, str, str, str]]:
    """Every place in a file: where that is said, the file, the key, and by whom it is written."""
    for path, name, to in _destinations(mapping):
        if to.file is not None:
            yield (*path, "key"), to.file, to.key or name, name
    for name, file in mapping.files.items():
        for key in file.values:
            yield (*_HERE, "files", name, "values", key), name, key, "a template"


def _names(mapping: MappingSettings) -> Iterator[tuple[Path, str, bool]]:
    """Every variable that is set: where it says so, its name, and whether numbers follow."""
    for path, _, to in _destinations(mapping):
        if to.env is not None:
            yield (*path, "env"), to.env, to.encode == "indexed"
    for variable in mapping.variables:
        yield (*_HERE, "variables", variable), variable, False
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
