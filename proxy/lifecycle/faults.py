"""Words for what is wrong with a field of a request."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Final

from proxy.lifecycle.jsontext import dotted, kind

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

_EXPECTED: Final = {
    "string_type": "must be a string",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "list_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
}


# Faults that are found here, with texts of our own.
_OURS: Final = frozenset({"absolute", "blank", "env_name"})
_LIMITS: Final = {
    "greater_than_equal": "must be at least {ge:g}",
    "greater_than": "must be more than {gt:g}",
    "literal_error": "must be {expected}",
    "too_long": "must have at most {max_length} items",
}


def _meant(path: tuple[int | str, ...], model: type[BaseModel] | None) -> str:
    name = str(path[-1])
    if len(path) == 1 and name.isupper():
        return " (a variable goes into env)"
    if model is None:
        return ""
    known = [info.alias or field for field, info in model.model_fields.items()]
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
    return f" (did you mean {close[0]}?)" if close else ""


def fault_of(error: ErrorDetails, model: type[BaseModel] | None = None) -> str:
    """One line: where, and what is wrong; never a value."""
    path = error["loc"]
    if error["type"] == "env_name":  # ends with pydantic's mark for "the key, not the value"
        path = path[:-1]
    where = dotted(path)
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown field{_meant(path, model)}"
    if error["type"] in _EXPECTED:
        return f"{where}: {_EXPECTED[error['type']]}, not {kind(error['input'])}"
    if error["type"] in _LIMITS:
        return f"{where}: {_LIMITS[error['type']].format(**error['ctx'])}"
    if error["type"] == "missing":
        return f"{where}: is missing"
    return f"{where}: {error['msg'] if error['type'] in _OURS else 'cannot be used'}"
