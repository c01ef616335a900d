"""The mapping engine: fields of an init request become variables and the contents of files.

Pure: what it makes is bytes and names; whoever shares a filesystem with the upstream writes them.
The same request always makes the same bytes.
"""

from __future__ import annotations

import copy
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from proxy.lifecycle.jsontext import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from proxy.settings import FieldMapping, FileMapping, MappingSettings

_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELL_WORD: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]+\Z")

_JOINERS: Final = {"comma": (",", "a comma"), "lines": ("\n", "a line break")}


@dataclass(frozen=True)
class PlannedFile:
    """A file to write: `content` to `path` with permission bits `mode`.

    `base_file` names a JSON file whose members stand where `content` has none. It may be written
    `${NAME:-path}` (the upstream's environment before anything was delivered), and may be
    relative to the upstream's working directory; it need not exist.
    """

    path: str
    content: bytes = field(repr=False)
    mode: int
    base_file: str | None = None


class Unfit(ValueError):  # noqa: N818  caught here, becomes a line of an InvalidFieldError
    """A value that the mapping cannot carry; the text names the place, not the value."""


def variables(
    field_name: str, value: Any, mapping: FieldMapping, name: str | None
) -> dict[str, str]:
    """`value` as environment variables called `name` (none when it has no name).

    Raises `Unfit`.
    """
    if name is None:
        return {}
    if mapping.encode == "indexed":
        return {f"{name}_{i}": _text(item) for i, item in enumerate(value)}
    if mapping.encode == "json":
        return {name: json.dumps(value, separators=(",", ":"))}
    if mapping.encode in _JOINERS:
        joiner, called = _JOINERS[mapping.encode]
        for i, item in enumerate(value):
            if joiner in item:
                place = dotted((field_name, i))
                raise Unfit(f"{place}: contains {called}, which separates the items here")
        return {name: joiner.join(value)}
    return {name: _text(value)}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def overridden(mapping: FieldMapping) -> Iterator[str]:
    """Names and patterns of inherited variables that must go when the field is delivered."""
    if mapping.env is not None:
        yield from _named(mapping.env, mapping)
    yield from mapping.unset


def spoken_for(mapping: MappingSettings, field_name: str) -> Iterator[str]:
    """Names and patterns of variables that nobody may deliver in `env` beside this field."""
    to = mapping.fields[field_name]
    yield from overridden(to)
    env = mapping.fields.get("env")
    if env is not None and env.file is not None and env.file == to.file and field_name != "env":
        yield from _named(to.key or field_name, to)


def _named(name: str, mapping: FieldMapping) -> Iterator[str]:
    yield name
    if mapping.encode == "indexed":
        yield f"{name}_[0-9]*"


def planned_files(
    mapping: MappingSettings, delivered: Mapping[str, Any], run_dir: str
) -> tuple[PlannedFile, ...]:
    """Every file of the mapping, also when nothing was delivered into it.

    A server that was told of a configuration file may not start without. Raises `Unfit`.
    """
    return tuple(
        PlannedFile(
            path=file.path.replace("{run_dir}", run_dir),
            content=_content(name, file, mapping, delivered),
            mode=file.mode,
            base_file=file.base_file,
        )
        for name, file in mapping.files.items()
    )


def _content(
    file_id: str, file: FileMapping, mapping: MappingSettings, delivered: Mapping[str, Any]
) -> bytes:
    mine = {
        name: value
        for name, value in delivered.items()
        if name in mapping.fields and mapping.fields[name].file == file_id
    }
    if file.format == "dotenv":
        return _dotenv(file, mapping, mine)
    tree = copy.deepcopy(file.base)
    for name, value in mine.items():
        _place(tree, mapping.fields[name].key or name, value)
    return _json(tree) if file.format == "json" else _yaml(tree)


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for part in outer:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    tree[last] = value


def _json(tree: dict[str, Any]) -> bytes:
    return json.dumps(tree, indent=2).encode() + b"\n"


def _yaml(tree: dict[str, Any]) -> bytes:
    import yaml  # noqa: PLC0415  only mappings that write YAML pay for it

    # libyaml's where it is: the other writes a character at a time, a megabyte in ten seconds.
    base: type[yaml.SafeDumper] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc, valid-type]
        """Quotes every text: `1e3` and `no` are numbers or booleans to one reader or another."""

    def quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')

    Dumper.add_representer(str, quoted)
    text: str = yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)
    return text.encode()


def _dotenv(file: FileMapping, mapping: MappingSettings, mine: Mapping[str, Any]) -> bytes:
    entries = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in file.base.items()
    }
    entries |= mine.get("env", {})
    for name, value in mine.items():
        if name != "env":
            to = mapping.fields[name]
            entries |= variables(name, value, to, to.key or name)
    for name in entries:
        if not _SHELL_NAME.match(name):
            raise Unfit(f"{dotted(('env', name))}: a dotenv file cannot hold this name")
    return "".join(f"{name}={_shell(value)}\n" for name, value in entries.items()).encode()


def _shell(value: str) -> str:
    """Quote as a POSIX shell reads an assignment; dotenv readers agree as far as they agree."""
    if _SHELL_WORD.match(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'"{escaped}"'
