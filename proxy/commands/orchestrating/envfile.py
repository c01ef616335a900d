r"""Environment files: a small, strict subset of what dotenv readers have in common.

    # a comment
    NAME=plain text up to the end of the line   # or up to a comment
    export OTHER='taken literally, $HOME and \n too'
    KEY="with \n, \r, \t, \\, \", \$ and
    real line breaks"

Nothing is interpolated. What readers disagree on (names twice, text after a closing quote,
unknown escapes) is a fault, so that no value is silently another than was meant. Faults name file
and line, never a value.
"""

from __future__ import annotations

import re
from typing import Final

_BEGIN: Final = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*")
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_COMMENT: Final = re.compile(r"(?:^|[ \t])#")
_SINGLE: Final = re.compile(r"'([^']*)'")
_DOUBLE: Final = re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL)
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", '"': '"', "$": "$"}


def parse_env_file(text: str, name: str) -> tuple[dict[str, str], list[str]]:
    """The variables in `text`, and its faults (`name:line: …`). With faults the rest still counts.

    `name` is what the faults call the file.
    """
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    found: dict[str, str] = {}
    lines: dict[str, int] = {}
    faults: list[str] = []
    position, line = 0, 1
    while position < len(text):
        try:
            variable, value, end = _entry(text, position)
        except _Fault as fault:
            faults.append(f"{name}:{line}: {fault}")
            variable, value, end = "", "", fault.resume
        if variable in lines:
            faults.append(f"{name}:{line}: {variable} is set on line {lines[variable]} already")
        elif variable:
            found[variable], lines[variable] = value, line
        line += text.count("\n", position, end)
        position = end
    return found, faults


class _Fault(Exception):  # noqa: N818  caught above, becomes a line
    """What is wrong, and where to read on."""

    def __init__(self, problem: str, resume: int) -> None:
        super().__init__(problem)
        self.resume = resume


def _entry(text: str, position: int) -> tuple[str, str, int]:
    """One assignment (no name: a blank line or comment), and where the next begins."""
    if blank := _BLANK.match(text, position):
        return "", "", blank.end()
    begin = _BEGIN.match(text, position)
    if begin is None:
        raise _Fault("is not NAME=VALUE", _next_line(text, position))
    quote = text[begin.end() : begin.end() + 1]
    read = {"'": _quoted, '"': _quoted}.get(quote, _plain)
    value, end = read(text, begin.end(), begin[1])
    if "\0" in value:
        raise _Fault(f"{begin[1]}: contains NUL", end)
    return begin[1], value, end


def _plain(text: str, position: int, _variable: str) -> tuple[str, int]:
    end = _next_line(text, position)
    value = text[position:end]
    comment = _COMMENT.search(value)
    return value[: comment.start() if comment else None].strip(), end


def _quoted(text: str, position: int, variable: str) -> tuple[str, int]:
    literal = text[position] == "'"
    match = (_SINGLE if literal else _DOUBLE).match(text, position)
    if match is None:
        # Whatever follows may belong to the value.
        raise _Fault(f"{variable}: the quote is never closed", len(text))
    rest = _BLANK.match(text, match.end())
    if rest is None:
        after = _next_line(text, match.end())
        raise _Fault(f"{variable}: there is text after the closing quote", after)
    if literal:
        return match[1], rest.end()
    if any(escape not in _ESCAPES for escape in _ESCAPE.findall(match[1])):
        problem = f"{variable}: has an unknown escape; a backslash itself is written twice"
        raise _Fault(problem, rest.end())
    return _ESCAPE.sub(lambda escape: _ESCAPES[escape[1]], match[1]), rest.end()


def _next_line(text: str, position: int) -> int:
    return text.find("\n", position) + 1 or len(text)
