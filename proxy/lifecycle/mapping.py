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
    from collections.abc import Callable, Iterator, Mapping

    from proxy.settings import Destination, FieldMapping, FileMapping, MappingSettings, Place

_SHELL_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHELL_WORD: Final = re.compile(r"[A-Za-z0-9_./:@%+,=-]+\Z")
# What a reader of ini files would take away, or for the end of the value.
_INI_UNFIT: Final = re.compile(r"[\r\n]|\A\s|\s\Z")
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


class Unfit(ValueError):  # noqa: N818  caught by the plan, becomes a line of an InvalidFieldError
    """A value that the mapping cannot carry; the text names the place, not the value."""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


class Values:
    """What a request has for the places of templates: `values(place)`.

    Raises `Unfit` for a place without a value, or, when not `complete`, leaves it empty.
    """

    def __init__(
        self, delivered: Mapping[str, Any], environment: Mapping[str, str], *, complete: bool
    ) -> None:
        self._delivered = delivered
        self._environment = environment
        self._complete = complete

    def given(self, place: Place) -> Any:
        """What was delivered for it, or None."""
        value: Any
        if place.variable is not None:
            value = self._environment.get(place.variable)
        else:
            value = self._delivered.get(place.name)
        if place.item is not None and isinstance(value, list):
            value = dict(enumerate(value)).get(place.item)
        return value

    def whole(self, place: Place) -> Any:
        """Its value as it is, not as text."""
        value = self.given(place)
        if value is not None:
            return value
        if place.default is None and self._complete:
            raise Unfit(f"{place}: is needed by this upstream")
        return place.default or ""

    def __call__(self, place: Place) -> str:
        value = self.whole(place)
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return _joined(place.name, value, "comma")
        return _text(value)


def variables(
    field_name: str, value: Any, mapping: Destination, name: str | None
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
        return {name: _joined(field_name, value, mapping.encode)}
    return {name: _text(value)}


def _joined(field_name: str, items: list[str], encode: str) -> str:
    joiner, called = _JOINERS[encode]
    for i, item in enumerate(items):
        if joiner in item:
            place = dotted((field_name, i))
            raise Unfit(f"{place}: contains {called}, which separates the items here")
    return joiner.join(items)


def overridden(mapping: FieldMapping) -> Iterator[str]:
    """Names and patterns of inherited variables that must go when the field is delivered."""
    for to in mapping.places:
        if to.env is not None:
            yield from _named(to.env, to)
        yield from to.unset


def spoken_for(mapping: MappingSettings, field_name: str) -> Iterator[str]:
    """Names and patterns of variables that nobody may deliver in `env` beside this field."""
    yield from overridden(mapping.fields[field_name])
    env = mapping.fields.get("env")
    if env is None or field_name == "env":
        return
    shared = {to.file for to in env.places}
    for to in mapping.fields[field_name].places:
        if to.file is not None and to.file in shared:
            yield from _named(to.key or field_name, to)


def _named(name: str, mapping: Destination) -> Iterator[str]:
    yield name
    if mapping.encode == "indexed":
        yield f"{name}_[0-9]*"


def planned_files(
    mapping: MappingSettings,
    delivered: Mapping[str, Any],
    run_dir: str,
    values: Callable[[Place], str],
) -> tuple[PlannedFile, ...]:
    """Every file of the mapping, also when nothing was delivered into it.

    A server that was told of a configuration file may not start without. Raises `Unfit`.
    """
    return tuple(
        PlannedFile(
            path=file.path.replace("{run_dir}", run_dir),
            content=_content(name, file, mapping, delivered, values),
            mode=file.mode,
            base_file=file.base_file,
        )
        for name, file in mapping.files.items()
    )


def _content(
    file_id: str,
    file: FileMapping,
    mapping: MappingSettings,
    delivered: Mapping[str, Any],
    values: Callable[[Place], str],
) -> bytes:
    if file.content is not None:
        return file.content.fill(values).encode()
    mine = [
        (name, value, to)
        for name, value in delivered.items()
        if name in mapping.fields
        for to in mapping.fields[name].places
        if to.file == file_id
    ]
    filled = {key: template.fill(values) for key, template in file.values.items()}
    if file.format in _FLAT:
        entries = {name: _text(value) for name, value in _leaves(file.base)}
        for name, value, to in mine:
            entries |= value if name == "env" else variables(name, value, to, to.key or name)
        return _FLAT[file.format](entries | filled)
    tree = copy.deepcopy(file.base)
    for name, value, to in mine:
        _place(tree, to.key or name, value)
    for key, text in filled.items():
        _place(tree, key, text)
    return _TREES[file.format](tree)


def _leaves(base: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """By name, in an ini file by `section.name`."""
    for name, value in base.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{inner}", leaf) for inner, leaf in value.items())
        else:
            yield name, value


def _place(tree: dict[str, Any], key: str, value: Any) -> None:
    *outer, last = key.split(".")
    for part in outer:
        inner = tree.get(part)
        if not isinstance(inner, dict):
            inner = tree[part] = {}
        tree = inner
    tree[last] = value


# How the content of a file is written


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


def _toml_file(tree: dict[str, Any]) -> bytes:
    """By TOML 1.0: a table for each mapping, inline ones within lists."""
    return "".join(_tables(tree, ())).encode()


def _tables(tree: dict[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    lines = [f"{_toml(key)} = {_toml(value)}\n" for key, value in plain.items()]
    if path and (lines or not tree):
        lines.insert(0, f"\n[{'.'.join(map(_toml, path))}]\n")
    for key, value in tree.items():
        if isinstance(value, dict):
            lines += _tables(value, (*path, key))
    return lines


def _toml(value: Any) -> str:
    """A value; a key is written as a text."""
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_toml(key)} = {_toml(item)}' for key, item in value.items())}}}"
    if value is None:
        raise Unfit("a null is given, and a toml file has no word for it")
    # JSON's escapes are TOML's; pairs of them for one character are not, and DEL needs one.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _ini(entries: Mapping[str, str]) -> bytes:
    """`entries` by `section.key`."""
    sections: dict[str, list[str]] = {}
    for name, value in entries.items():
        section, _, key = name.partition(".")
        if _INI_UNFIT.search(value):
            raise Unfit(f"{name}: has a line break or space at an end, which ini files do not keep")
        sections.setdefault(section, []).append(f"{key} = {value}\n")
    return "\n".join(f"[{name}]\n{''.join(lines)}" for name, lines in sections.items()).encode()


def _dotenv(entries: Mapping[str, str]) -> bytes:
    """Quoted as a POSIX shell reads assignments; dotenv readers agree as far as they agree."""
    for name in entries:
        if not _SHELL_NAME.match(name):
            raise Unfit(f"{dotted(('env', name))}: a dotenv file cannot hold this name")
    return "".join(f"{name}={_shell(value)}\n" for name, value in entries.items()).encode()


def _shell(value: str) -> str:
    if _SHELL_WORD.match(value):
        return value
    if "'" not in value:
        return f"'{value}'"
    escaped = re.sub(r'([\\"$`])', r"\\\1", value)
    return f'"{escaped}"'


_TREES: Final = {"json": _json, "yaml": _yaml, "toml": _toml_file}
_FLAT: Final = {"dotenv": _dotenv, "ini": _ini}
