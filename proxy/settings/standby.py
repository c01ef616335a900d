"""`upstream.standby`: requests that tell a running server what an init has brought.

Their texts are templates. A body is one of them, sent as it is, or any JSON whose texts are: there
a text that is one place and nothing else becomes the value itself, a list or a number as well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol

from pydantic import AfterValidator, Field, PlainSerializer, PlainValidator, WithJsonSchema

from proxy.settings.mapping import Model
from proxy.settings.template import Template
from proxy.settings.values import (
    Filled,
    HeaderName,
    Pattern,
    Seconds,
    Statuses,
    header_value,
    parse_template,
    request_target,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from proxy.settings.template import Place


class Given(Protocol):
    """What an init has for the places of templates: as text, or as it is (`whole`)."""

    def __call__(self, place: Place) -> str: ...

    def whole(self, place: Place) -> Any: ...


@dataclass(frozen=True)
class Body:
    """`content`: a template, or JSON with templates for its texts."""

    content: Any = field(repr=False)

    @property
    def is_json(self) -> bool:
        return not isinstance(self.content, Template)

    @property
    def templates(self) -> Iterator[Template]:
        yield from _templates(self.content)

    def fill(self, given: Given) -> bytes:
        if isinstance(self.content, Template):
            return self.content.fill(given).encode()
        return json.dumps(_filled(self.content, given)).encode()

    @property
    def plain(self) -> Any:
        """As it was written."""
        return _each(self.content, str)


def _templates(content: Any) -> Iterator[Template]:
    if isinstance(content, Template):
        yield content
    elif isinstance(content, dict):
        for value in content.values():
            yield from _templates(value)
    elif isinstance(content, list):
        for value in content:
            yield from _templates(value)


def _filled(content: Any, given: Given) -> Any:
    def fill(template: Template) -> Any:
        place = template.only_place
        return template.fill(given) if place is None else given.whole(place)

    return _each(content, fill)


def _each(content: Any, make: Any) -> Any:
    if isinstance(content, Template):
        return make(content)
    if isinstance(content, dict):
        return {key: _each(value, make) for key, value in content.items()}
    if isinstance(content, list):
        return [_each(value, make) for value in content]
    return content


def _body(value: Any) -> Body:
    return value if isinstance(value, Body) else Body(_parsed(value))


def _parsed(value: Any) -> Any:
    if isinstance(value, str):
        return parse_template(value)
    if isinstance(value, dict):
        return {str(key): _parsed(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_parsed(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    raise ValueError("must be text, or what JSON can hold")


def _path(template: Template) -> Template:
    request_target(template.text)
    return template


def _header(template: Template) -> Template:
    header_value(template.text)
    return template


RequestBody = Annotated[
    Body,
    PlainValidator(_body),
    PlainSerializer(lambda body: body.plain),
    WithJsonSchema(
        {"anyOf": [{"type": "string"}, {"type": "object"}, {"type": "array", "items": {}}]}
    ),
]
PathTemplate = Annotated[Filled, AfterValidator(_path)]
HeaderTemplate = Annotated[Filled, AfterValidator(_header)]


class ExpectSettings(Model):
    statuses: Annotated[tuple[Statuses, ...], Field(min_length=1)] = Field(
        default=("200-299",), description="Statuses that mean success: numbers, or ranges."
    )
    body: Pattern | None = Field(
        default=None, description="A regular expression that must be found in the answer, too."
    )


class RequestSettings(Model):
    """One request to the upstream, made when it is ready."""

    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = Field(
        default="POST", description="Its method."
    )
    path: PathTemplate = Field(
        description="A template of its path and query; values are percent-encoded in it."
    )
    headers: dict[HeaderName, HeaderTemplate] = Field(
        default_factory=dict, description="Templates of its headers."
    )
    body: RequestBody | None = Field(
        default=None,
        description="A template of its body, sent as it is; or a mapping or list that is sent as "
        "JSON, with templates for its texts. null: none.",
    )
    expect: ExpectSettings = Field(
        default=ExpectSettings(),
        description="What it must be answered; redirects are not followed.",
    )
    timeout: Seconds = Field(default=5.0, description="Seconds it may take.")

    @property
    def name(self) -> str:
        """What it is called where its values are not to be seen."""
        return f"{self.method} {self.path}"

    @property
    def templates(self) -> Iterator[tuple[tuple[str, ...], Template]]:
        """With the path of each below the request."""
        yield ("path",), self.path
        for name, template in self.headers.items():
            yield ("headers", name), template
        for template in self.body.templates if self.body is not None else ():
            yield ("body",), template


class StandbySettings(Model):
    requests: tuple[RequestSettings, ...] = Field(
        default=(),
        description="Requests that tell the running upstream what an init has brought, one after "
        "the other. One for which nothing was delivered is left out.",
    )
