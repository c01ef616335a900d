"""`http-api.md`: what the proxy itself answers, read off its OpenAPI document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from docs.generate.markdown import GENERATED, code, kind, table
from proxy.control.openapi import document
from proxy.settings.profiles import OPENHANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD: Final = """# HTTP API

What the proxy itself answers; everything else is the upstream's. The same as an OpenAPI document:
`deferred-init-proxy openapi`, or `GET /openapi.json` of the admin listener. What the answers mean
in each state is in [Life cycle](life-cycle.md), how to call it in
[Claim a pod](../how-to/claim.md).
"""


def page() -> str:
    api = document()
    parts = [GENERATED, _HEAD]
    for path, methods in api["paths"].items():
        for method, operation in methods.items():
            parts += _operation(f"{method.upper()} {path}", operation)
    parts.append("\n## Bodies\n")
    for name, schema in api["components"]["schemas"].items():
        parts += _body(name, schema)
    return "".join(parts)


def _operation(name: str, operation: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {name}\n\n{operation['summary']}\n"
    if "security" in operation:
        yield "\nThe header `X-Init-API-Key` is the pool's bootstrap key (`init.key`).\n"
    if "requestBody" in operation:
        yield f"\nThe body is {_content(operation['requestBody'])}.\n"
    if "parameters" in operation:
        rows = [
            (f"`{each['name']}` ({each['in']})", kind(each["schema"]), each["description"])
            for each in operation["parameters"]
        ]
        yield "\n" + table(["parameter", "value", "meaning"], rows)
    answers = [
        (status, _content(answer), answer["description"] + _headers(answer))
        for status, answer in operation["responses"].items()
    ]
    yield "\n" + table(["status", "body", "meaning"], answers)


def _content(holder: dict[str, Any]) -> str:
    return " or ".join(
        kind(content["schema"]) if media == "application/json" else f"`{media}`"
        for media, content in holder.get("content", {}).items()
    )


def _headers(answer: dict[str, Any]) -> str:
    return "".join(
        f" `{name}`: {header['description']}" for name, header in answer.get("headers", {}).items()
    )


def _body(name: str, schema: dict[str, Any]) -> Iterator[str]:
    yield f"\n### {name}\n\n{schema.get('description', '')}\n"
    fields = schema["properties"]
    if name == "InitRequest":
        yield "\nThe last column is what `upstream.profile: openhands` sets.\n"
        rows = [(f"`{f}`", _given(s), _variable(f)) for f, s in fields.items()]
        yield "\n" + table(["field", "value", "reaches OpenHands as"], rows)
        return
    required = schema.get("required", ())
    rows = [
        (f"`{field}`", kind(inner), "" if field in required else code(inner.get("default", {})))
        for field, inner in fields.items()
    ]
    yield "\n" + table(["field", "value", "default"], rows)


def _given(schema: dict[str, Any]) -> str:
    """Without `null`, which stands for a field that is not given."""
    return " or ".join(kind(each) for each in schema["anyOf"] if each.get("type") != "null")


def _variable(field: str) -> str:
    to = OPENHANDS.fields.get(field)
    if to is None:
        return "the process environment"
    return f"`{to.env}_0`, `{to.env}_1`, …" if to.encode == "indexed" else f"`{to.env}`"
