"""The bytes of HTTP/1 messages as RFC 9112 spells them, and nothing that only resembles them.

A head is accepted when the whole of it matches the grammar, from the first byte to the empty
line. What is not in the grammar (a bare LF, a folded line, a space before a colon, a NUL) is
therefore not "detected": it simply does not match. Quantifiers are possessive, so a match is
linear in the size of the head, whatever the bytes.

Whatever matches, llhttp in its strict mode accepts as well (the tests hold that), and more is
refused besides; and it is known to the byte where a message ends, which a parser that swallows
a whole read cannot tell.
"""

from __future__ import annotations

import re
from typing import Final

TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
VALUE: Final = rb"[\t\x20-\x7e\x80-\xff]"
FIELD: Final = rb"\r\n" + TOKEN + rb"++:" + VALUE + rb"*+"

# uri-host [":" port], RFC 9110 section 7.2; no userinfo, path or list can hide in it.
HOST: Final = re.compile(
    rb"(?:\[[0-9A-Za-z:.%\-_~]+\]|[0-9A-Za-z.\-_~%!$&'()*+,;=]*)(?::[0-9]{0,5})?"
)
# What identifies a request in logs and headers, whoever reads them and however.
REQUEST_ID: Final = re.compile(rb"[0-9A-Za-z._~:/+=@-]{1,128}")
# Below 2**63, which everybody can count to; zeros before it do not count.
_DIGITS: Final = re.compile(rb"0*([0-9]{1,18})")

# The authority of a target in absolute form, and the rest, which may be nothing.
ABSOLUTE: Final = re.compile(rb"(?i:http)://([^/?#]*)(.*)", re.DOTALL)

STATUS_LINE: Final = rb"HTTP/1\.([01]) ([1-9][0-9][0-9])(?: " + VALUE + rb"*+)?"
RESPONSE: Final = re.compile(STATUS_LINE + rb"((?:" + FIELD + rb")*)\r\n\r\n")

CHUNK: Final = re.compile(rb"0*([0-9A-Fa-f]{1,15})(?:[\t ]*;" + VALUE + rb"*+)?\r\n")
# As servers send it: some fill the size up with blanks.
PADDED_CHUNK: Final = re.compile(rb"0*([0-9A-Fa-f]{1,15})[\t ]*(?:;" + VALUE + rb"*+)?\r\n")
TRAILER: Final = TOKEN + rb"++:" + VALUE + rb"*+\r\n"
TRAILERS: Final = re.compile(rb"((?:" + TRAILER + rb")*)\r\n")
ONE_TRAILER: Final = re.compile(rb"(?:" + TRAILER + rb"|\r\n)")

# Line ends that no grammar has: found in a head that is not complete yet, it never will be.
BROKEN_LINE: Final = re.compile(rb"\r(?![\n])(?!\Z)|(?<!\r)\n|\x00")


def request_grammar(target_length: int, header_count: int) -> re.Pattern[bytes]:
    """A request head within the limits: method, target, minor version, header lines.

    A target in absolute form is one as well: RFC 9112 section 3.2.2.
    """
    # It begins with a letter, which no path does.
    target = rb"((?:/|(?i:http)://)[\x21\x22\x24-\x7e]{0,%d}+|\*)" % (target_length - 1)
    fields = rb"((?:" + FIELD + rb"){0,%d})" % header_count
    return re.compile(
        rb"(" + TOKEN + rb"{1,64}+) " + target + rb" HTTP/1\.([0-9])" + fields + rb"\r\n\r\n"
    )


def number(digits: bytes) -> int | None:
    """What they count, or None; `int` takes no more than some thousands, zeros included."""
    match = _DIGITS.fullmatch(digits)
    return int(match[1]) if match is not None else None
