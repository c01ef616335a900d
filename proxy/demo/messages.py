"""What a client may say to the sample agent server, checked; every fault is named by its path."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PAGE: Final = 100  # items in a page of a search, at most
_DIGITS: Final = 9  # of a number in a query: more is no index


class BadRequestError(Exception):
    """The request is at fault; `status` and the text are the answer."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


def parse_json(raw: bytes | str) -> Any:
    try:
        return json.loads(raw or "{}")
    except RecursionError:
        raise BadRequestError(400, "the body is no JSON: nested too deeply") from None
    except ValueError:  # also bytes that are not UTF-8
        raise BadRequestError(400, "the body is no JSON") from None


def message_text(body: Any, place: str = "") -> str:
    """The text of a user message: `{"content": "…"}`, or a list of `{"type": "text", …}` parts.

    Raises `BadRequestError` naming the path of the fault; `place` is where the message is.
    """
    if not isinstance(body, dict):
        raise BadRequestError(422, f"{place or 'the body'}: must be an object")
    prefix = f"{place}." if place else ""
    if body.get("role", "user") != "user":
        raise BadRequestError(422, f"{prefix}role: must be 'user'")
    content = body.get("content")
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise BadRequestError(422, f"{prefix}content: must be a string or a list of text parts")
    for index, part in enumerate(content):
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise BadRequestError(422, f"{prefix}content[{index}].text: must be a string")
    return "\n".join(part["text"] for part in content)


def whole_number(text: str) -> int | None:
    """The number that `text` is, None if it is anything else (`int` is far more generous)."""
    if text.isascii() and text.isdigit() and len(text) <= _DIGITS:
        return int(text)
    return None


def page_bounds(query: Mapping[str, str], total: int) -> tuple[int, int]:
    """`page_id` and `limit` of a search, as indexes from and to. Raises `BadRequestError`."""
    numbers = {"page_id": 0, "limit": PAGE}
    for name in numbers:
        with contextlib.suppress(KeyError):
            text = query[name]
            number = whole_number(text)
            if number is None:
                raise BadRequestError(422, f"{name}: must be a whole number")
            numbers[name] = number
    if not 1 <= numbers["limit"] <= PAGE:
        raise BadRequestError(422, f"limit: must be from 1 to {PAGE}")
    start = min(numbers["page_id"], total)
    return start, min(start + numbers["limit"], total)
