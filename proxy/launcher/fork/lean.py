"""Gives back the pages of program code and constants that only the imports needed.

A fork server sits and waits; the code of the libraries it has loaded would stay resident on its
account. Such pages are unchanged copies of files: dropped, they come back from the page cache when
they are touched, and a forked child maps the files anew anyway. A mapping that holds a single page
of its own (`Anonymous` in proc_pid_smaps(5)) is left alone.
"""

from __future__ import annotations

import ctypes
import mmap
import re

_HEAD = re.compile(rb"^([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ +(/.*)$")
_DONTNEED = getattr(mmap, "MADV_DONTNEED", 4)


def drop_code() -> int:
    """Returns how many bytes of address space were let go."""
    advise = ctypes.CDLL(None).madvise
    advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    total = 0
    for start, end in _clean_code():
        if advise(start, end - start, _DONTNEED) == 0:
            total += end - start
    return total


def _clean_code() -> list[tuple[int, int]]:
    """Private mappings of files, not writable, none of whose pages is our own."""
    found: list[tuple[int, int]] = []
    candidate: tuple[int, int] | None = None
    with open("/proc/self/smaps", "rb") as smaps:
        for line in smaps:
            head = _HEAD.match(line)
            if head:
                code = head.group(3) in (b"r-xp", b"r--p")  # constants lie in the latter
                candidate = (int(head.group(1), 16), int(head.group(2), 16)) if code else None
            elif b"-" in line.partition(b" ")[0]:
                candidate = None  # a mapping without a file
            elif candidate and line.startswith(b"Anonymous:") and int(line.split()[1]) == 0:
                found.append(candidate)
    return found
