"""From file, environment and command line to `Settings`, or to every fault there is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from proxy.errors import SettingsError
from proxy.settings.reading.checks import check
from proxy.settings.reading.environment import overlay, put
from proxy.settings.reading.faults import Fault, Origin, from_pydantic, printable
from proxy.settings.reading.yamlfile import Document, UnreadableError, read_yaml
from proxy.settings.tree import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path as FilePath

    from proxy.settings.reading.faults import Path


def load_settings(
    file: FilePath | None,
    environ: Mapping[str, str],
    command: Sequence[str] | None = None,
) -> Settings:
    """Read `file`, put `environ` over it, and `command` (the upstream's argv) over both.

    Raises `SettingsError` with every fault at once, each beginning with its place as written: a
    key of the file, the name of a variable, or COMMAND.
    """
    document, unreadable = Document(), []
    if file is not None:
        try:
            document = read_yaml(file)
        except UnreadableError as error:
            unreadable = [printable(str(error))]
        document.origins.root = str(file)
    data, origins = document.data, document.origins
    faults = document.faults + overlay(data, origins, environ)
    if command is not None:
        path = ("upstream", "command")
        put(data, origins, path, list(command), Origin(path, name="COMMAND"))
    found, settings = _validate(data)
    faults += found
    # What an unreadable file may have said decides about the rules between keys.
    if not unreadable:
        wrong = {fault.path for fault in faults}
        faults += [f for f in check(settings) if not _doubtful(f, wrong)]
    if unreadable or faults:
        faults.sort(key=lambda fault: origins.line(fault) or math.inf)
        raise SettingsError(unreadable + [origins.describe(fault) for fault in faults])
    return settings


def _validate(data: dict[str, Any]) -> tuple[list[Fault], Settings]:
    """Every key that is wrong by itself; and the tree with the defaults in their places."""
    try:
        return [], Settings.model_validate(data)
    except ValidationError as error:
        found = [from_pydantic(each) for each in error.errors(include_url=False)]
    # A list whose only item is wrong is called too short as well; the item says it all.
    faults = [fault for fault in found if not any(_under(other, fault) for other in found)]
    # All places are found before anything is taken out: two faults may be of one list.
    for holder, key in [_place(data, fault.path) for fault in faults]:
        holder.pop(key, None)
    return faults, _validate(data)[1]


def _under(inner: Fault, outer: Fault) -> bool:
    depth = len(outer.path)
    return len(inner.path) > depth and inner.path[:depth] == outer.path


def _place(data: dict[str, Any], path: Path) -> tuple[dict[str, Any], str]:
    """The mapping and the key of the value at `path`, or of the innermost one around it."""
    node: Any = data
    holder, key = data, str(path[0])
    for part in path:
        if not isinstance(node, dict) or part not in node:
            break
        holder, key, node = node, str(part), node[part]
    return holder, key


def _doubtful(fault: Fault, wrong: set[Path]) -> bool:
    """Whether the rule was judged by a default that stands in for something wrong."""
    return any(
        path[: len(other)] == other or other[: len(path)] == path
        for path in fault.about or (fault.path,)
        for other in wrong
        if other
    )
