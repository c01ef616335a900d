"""Which parts of a library hold its code and data: the file minus its tables of symbols.

A literal that is handed to getenv(3) lies in a section that is loaded and belongs to the program
itself (SHT_PROGBITS with SHF_ALLOC). The names in .dynstr, .strtab and the debug information are
thousands of words that no code refers to. See elf(5).
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

_MAGIC = b"\x7fELF\x02\x01"  # 64 bit, little endian
_SECTION = struct.Struct("<IIQQQQIIQQ")
_PROGBITS = 1
_ALLOC = 2


def program_parts(content: mmap.mmap | bytes) -> list[tuple[int, int]]:
    """Begin and end of each; all of the file when it is of another kind or has no sections."""
    whole = [(0, len(content))]
    if content[:6] != _MAGIC:
        return whole
    try:
        (table,) = struct.unpack_from("<Q", content, 40)
        size, count = struct.unpack_from("<HH", content, 58)
        sections = [_SECTION.unpack_from(content, table + number * size) for number in range(count)]
    except struct.error:
        return whole
    parts = [
        (section[4], section[4] + section[5])
        for section in sections
        if section[1] == _PROGBITS and section[2] & _ALLOC
    ]
    sound = all(begin <= end <= len(content) for begin, end in parts)
    return parts if parts and sound else whole
