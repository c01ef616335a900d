"""Settings from environment variables.

`PROXY_UPSTREAM__URL` is `upstream.url`: `PROXY_`, the keys in capitals, two underscores between
them. Texts are taken as they are, numbers and booleans are read as such, lists and mappings are
JSON. A whole section may be given as a JSON object (`PROXY_LIMITS`); the more specific variable
wins. `OH_DEFERRED_INIT` and `OH_SECRET_KEY` are other names for `deferred_init` and `init.key`,
the ones of the OpenHands agent server; the `PROXY_` name wins over them.

An empty variable counts as not set, except for the key: an empty key refuses everybody, and must
not turn into no key at all because a Secret was not filled in.

Kubernetes puts variables of its own into a pod for every Service: one that is called `proxy` yields
`PROXY_PORT`, `PROXY_SERVICE_HOST` and so on, one called `proxy-init` yields `PROXY_INIT_PORT`.
These are never settings. Of the others, a name is taken for a (misspelt) setting when it has two
underscores in a row, begins with a key of the first level, or is nearly the name of a setting;
what is left is somebody else's.
"""

from __future__ import annotations

import json
import re
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from proxy.settings.reading.faults import Fault, Origin, Origins, Path, closest, sections
from proxy.settings.tree import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PREFIX: Final = "PROXY_"
ALIASES: Final[dict[str, Path]] = {
    "OH_DEFERRED_INIT": ("deferred_init",),
    "OH_SECRET_KEY": ("init", "key"),
}
_KEY: Final[Path] = ("init", "key")
_SERVICE_LINK: Final = re.compile(
    r"(?!.*__)PROXY_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)",
    re.ASCII,
)
_SECTIONS: Final = frozenset(path for path, _ in sections() if path)
_JSON_WANTED: Final = 'lists and mappings are given as JSON: ["a", "b"], {"A": "b"}'
# How alike a name must be to that of a setting to be taken for it.
_NEARLY: Final = 0.9


def variable(path: Path) -> str:
    """The environment variable of the setting at `path`."""
    return PREFIX + "__".join(str(part).upper() for part in path)


def _settings() -> Iterator[tuple[Path, Any]]:
    """Every key of the tree with its type; that of a section is `dict`."""
    for above, model in sections():
        for name, info in model.model_fields.items():
            path = (*above, name)
            yield path, dict if path in _SECTIONS else info.annotation


def overlay(data: dict[str, Any], origins: Origins, environ: Mapping[str, str]) -> list[Fault]:
    """Put what the environment says over `data`; returns what is wrong with the variables."""
    known = dict(_settings())
    names = {variable(path): path for path in known}
    faults: list[Fault] = []
    # Aliases first and the deepest last, because the last one wins.
    given = [(name, path) for name, path in ALIASES.items() if name in environ]
    ours = [(name, names[name]) for name in environ if name in names]
    for name, path in given + sorted(ours, key=lambda item: len(item[1])):
        if not environ[name].strip() and path != _KEY:
            continue
        value, problem = _read(environ[name], known[path])
        origin = Origin(path, name=name)
        if problem is not None:
            origins.note(path, origin)
            faults.append(Fault(path, problem, _JSON_WANTED))
        else:
            put(data, origins, path, value, origin)
    return faults + list(_unknown(environ, names))


def _read(text: str, annotation: Any) -> tuple[Any, str | None]:
    """The variable's value, or what is wrong with it."""
    union = get_origin(annotation) in (Union, UnionType)
    kinds = {get_origin(kind) or kind for kind in (get_args(annotation) if union else [annotation])}
    collection, word = kinds & {tuple, dict}, kinds - {tuple, dict, NoneType}
    if not collection or (word and not text.lstrip().startswith("[")):
        return text, None
    try:
        return json.loads(text, object_pairs_hook=unique), None
    except RepeatedKeyError as error:
        return None, str(error)
    except json.JSONDecodeError as error:
        return None, f"is not JSON at character {error.pos + 1}"
    except (ValueError, RecursionError):
        return None, "is not JSON that can be read: too deep, or too long a number"


class RepeatedKeyError(ValueError):
    """A JSON object has a key twice; the text reads on after its place."""


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The `object_pairs_hook` that raises `RepeatedKeyError`."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RepeatedKeyError(f"has the key {twice!r} twice")
    return found


def put(data: dict[str, Any], origins: Origins, path: Path, value: Any, origin: Origin) -> None:
    """Set the value at `path`; a section's keys are set one by one, so that others stay."""
    if path in _SECTIONS and isinstance(value, dict):
        for name, inner in value.items():
            put(data, origins, (*path, name), inner, origin)
        return
    node = data
    for part in path[:-1]:
        if node.get(str(part)) is None:
            node[str(part)] = {}
        node = node[str(part)]
        if not isinstance(node, dict):
            return  # a fault of the file, and found as one
    node[str(path[-1])] = value
    origins.note(path, origin)


def _unknown(environ: Mapping[str, str], names: Mapping[str, Path]) -> Iterator[Fault]:
    # Both spellings compare equal: one underscore for two is the likeliest slip.
    plain = {name.replace("__", "_"): name for name in names}
    for name in environ:
        if not name.startswith(PREFIX) or name in names or _SERVICE_LINK.fullmatch(name):
            continue
        first = {variable((key,)) for key in Settings.model_fields}
        begins = any(name.startswith(f"{key}_") for key in first)
        meant = closest(name.replace("__", "_"), plain, cutoff=0.6 if begins else _NEARLY)
        if "__" in name or begins or meant is not None:
            hint = f"did you mean {plain[meant]}?" if meant else None
            yield Fault((), "unknown setting", hint, place=name)
