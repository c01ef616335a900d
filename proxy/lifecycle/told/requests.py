"""What a running upstream is told of an init: the requests that the settings describe, filled.

Pure, as the mapping is. A request is left out when nothing of what it tells was delivered; one that
has no places, or none without a default, is made each time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from proxy.lifecycle.mapping import Unfit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from proxy.lifecycle.mapping import Values
    from proxy.settings import Place, RequestSettings


@dataclass(frozen=True)
class PlannedRequest:
    """A request to make, and what it must be answered: a status, and a pattern in the body.

    `name` is what it is called where its values are not to be seen; `timeout` is in seconds.
    """

    name: str
    method: str
    path: str = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    statuses: tuple[int | str, ...]
    answer: str | None
    timeout: float


def planned_requests(
    requests: Iterable[RequestSettings], values: Values
) -> tuple[PlannedRequest, ...]:
    """Those that are to be made. Raises `Unfit`."""
    return tuple(_planned(each, values) for each in requests if _is_made(each, values))


def told_variables(requests: Iterable[RequestSettings]) -> frozenset[str]:
    """Variables of the caller's that go into requests, and not into the environment."""
    places = (place for request in requests for place in _places(request))
    return frozenset(place.variable for place in places if place.variable is not None)


def _places(request: RequestSettings) -> Iterator[Place]:
    for _, template in request.templates:
        yield from template.places


def _is_made(request: RequestSettings, values: Values) -> bool:
    places = list(_places(request))
    given = any(values.given(place) is not None for place in places)
    return given or all(place.default is not None for place in places)


def _planned(request: RequestSettings, values: Values) -> PlannedRequest:
    def in_header(place: Place) -> str:
        text = values(place)
        if text != text.strip() or not text.isascii() or not text.isprintable():
            raise Unfit(f"{place}: cannot be in a header, as {request.name} has it")
        return text

    headers = {name: template.fill(in_header) for name, template in request.headers.items()}
    if request.body is not None and request.body.is_json:
        named = {name.lower() for name in headers}
        headers |= {} if "content-type" in named else {"Content-Type": "application/json"}
    return PlannedRequest(
        name=request.name,
        method=request.method,
        path=_path(request, values),
        headers=headers,
        body=request.body.fill(values) if request.body is not None else None,
        statuses=request.expect.statuses,
        answer=request.expect.body.pattern if request.expect.body is not None else None,
        timeout=request.timeout,
    )


def _path(request: RequestSettings, values: Values) -> str:
    def quoted(place: Place) -> str:
        text = quote(values(place), safe="")
        if text in {".", ".."}:  # which would be another path to whoever normalises it
            raise Unfit(f"{place}: cannot be in a path, as {request.name} has it")
        return text

    return request.path.fill(quoted)
