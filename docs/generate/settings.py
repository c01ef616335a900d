"""`settings.md`: every key, read off the models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from docs.generate.markdown import GENERATED, code, kind, table
from proxy.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """# Settings

A YAML file (`serve --config FILE`), over it the environment, over that the command after `--`.
[`config.example.yaml`](../../config.example.yaml) has every key with its default, to copy from.
`deferred-init-proxy check FILE` names every fault at once, with its place and a hint;
`deferred-init-proxy schema` prints the JSON Schema.

Every key is also a variable: `PROXY_`, the keys in capitals, two underscores between them. So
`upstream.ready.path` is `PROXY_UPSTREAM__READY__PATH`. Lists and mappings are JSON there. An empty
variable counts as not set. Two keys have a variable of their own as well: `deferred_init` is
`OH_DEFERRED_INIT`, and `init.key` is `OH_SECRET_KEY` (an empty one is a blank key, which refuses
everybody).

Seconds are plain numbers, at most a year. An unknown key is a fault. What rules hold between keys
(`activation: signal` needs a `run_dir`, say) is in `check`, not in the schema.
"""


# Models that are listed within a section with the same keys.
_SAME_KEYS: Final = "/Destination"


def page() -> str:
    schema = Settings.model_json_schema()
    return GENERATED + _HEAD + "".join(_sections(schema, schema["$defs"], ""))


def _sections(schema: dict[str, Any], definitions: dict[str, Any], path: str) -> Iterator[str]:
    """The keys of one section, then the sections in it."""
    rows, inner = [], []
    for name, key in schema["properties"].items():
        below = _section(key)
        if below is None:
            rows.append(_row(name, key, required=name in schema.get("required", ())))
        else:
            inner.append((f"{path}{name}{below[1]}", key, definitions[below[0]]))
    if rows:
        yield "\n" + table(["key", "value", "default", "meaning"], rows)
    for at, key, model in inner:
        yield f"\n##{'#' * min(at.count('.'), 2)} {at}\n\n{key['description']}\n"
        yield from _sections(model, definitions, f"{at}.")


def _section(key: dict[str, Any]) -> tuple[str, str] | None:
    """The model that a key holds, and what stands in the path for the names of a mapping of it."""
    among = [each["$ref"] for each in key.get("anyOf", ()) if "$ref" in each]  # or null
    reference, names = key.get("$ref", among[0] if len(among) == 1 else None), ""
    inner = key.get("additionalProperties")
    if isinstance(inner, dict) and "$ref" in inner:
        reference, names = inner["$ref"], ".NAME"
    listed = key.get("items", {}).get("$ref")
    if listed is not None and not listed.endswith(_SAME_KEYS):
        reference, names = listed, "[]"
    if reference is None or reference.endswith("/JsonValue"):
        return None
    return reference.rpartition("/")[2], names


def _row(name: str, key: dict[str, Any], *, required: bool) -> tuple[str, str, str, str]:
    default = "required" if required else code(key.get("default", {}))
    value = "list of mappings" if "$ref" in key.get("items", ()) else kind(key)
    return f"`{name}`", value, default, key["description"]
