"""Environment names that native libraries of this process may have read.

The audit sees Python code, and `interpose` hears calls of getenv(3). What is left is whoever has
read before anybody listened, and whoever goes through `environ` without a call; where nothing can
be heard, every library that refers to getenv. The text of such a library is searched for what looks
like environment names. A name counts as readable when a zero-terminated text ends with it (linkers
let one text be the tail of another), or, in libraries of compilers that do not terminate their
texts (Rust, Go), when it occurs at all. That errs on the side of a cold start: `TOKEN` ends many a
text that is no environment name. Only what the program itself can point at is searched (see `elf`),
not the tables of symbols. The largest libraries, which nearly every process has, are not searched
because it is known what they read.
"""

from __future__ import annotations

import mmap
import os
import re
from contextlib import contextmanager

from .elf import program_parts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

_TERMINATED = re.compile(rb"[A-Z][A-Z0-9_]{3,}(?=\0)")
_ANY = re.compile(rb"[A-Z][A-Z0-9_]{3,}")
_USUAL = re.compile(r"^[A-Z][A-Z0-9_]{3,}$")
_GO = b"Go build ID"  # reads the environment without the C library
_UNTERMINATED = (b"/rustc/", _GO)
_CFFI = b"_cffi_backend\0"  # of a library that cffi has made
_CALLS = (b"\0getenv\0", b"\0secure_getenv\0", b"\0__secure_getenv\0")
_UNHEARD = (b"\0environ\0", b"\0__environ\0", b"\0_environ\0", _GO)


# What the sources of these call getenv with, where `policy.ALWAYS_COLD` has not got it.
_C_LIBRARY = (
    *("HOME", "PATH", "TMPDIR", "IFS", "COLUMNS", "POSIX", "POSIXLY_CORRECT", "DATEMSK"),
    *("MSGVERB", "SEV_LEVEL", "OUTPUT_CHARSET", "CHARSET", "GETCONF_DIR", "ARGP_HELP_FMT"),
)
_PYTHON = re.compile(r"^(libpython3|python3?(\.\d+)?$)")
_AT_START = ("PATH",)  # where an interpreter looks for itself
# Interpreters that are made to run anywhere have the libraries of their modules inside, SQLite
# among them, and these read more.
_INSIDE = b"\0SQLITE_TMPDIR\0"
_C = r"^(lib(c|m|pthread|dl|rt|gcc_s)(-[\d.]+)?\.so|ld-linux|ld-musl)"
_KNOWN = (
    (_PYTHON, ("PATH", "HOME", "TERM")),
    (re.compile(_C), _C_LIBRARY),
    (re.compile(r"^lib(crypto|ssl)\."), ("HOME", "RANDFILE", "CTLOG_FILE", "QLOGDIR")),
    (re.compile(r"^libstdc\+\+"), ("GLIBCXX_FORCE_NEW", "GLIBCPP_FORCE_NEW")),
)


class Native:
    """What the libraries mapped at one moment can have read; they are searched once, here.

    `earlier` are those that were there before calls of getenv were heard; None: none ever was.
    """

    def __init__(self, paths: list[str], earlier: list[str] | None = None) -> None:
        listened = earlier is not None
        known = {path: _known(path, listened=listened) for path in paths}
        self._known = {name: path for path in paths for name in known[path] or ()}
        self._paths = [
            path
            for path in paths
            if known[path] is None and _reads(path, heard=listened and path not in (earlier or ()))
        ]
        self._exposing = [path for path in self._paths if _exposes(path)]
        tails: set[bytes] = set()
        texts: set[bytes] = set()
        for path in self._paths:
            with _content(path) as content:
                pattern, found = (_TERMINATED, tails) if _terminates(content) else (_ANY, texts)
                for begin, end in program_parts(content):
                    found.update(pattern.findall(content, begin, end))
        self._tails = b"\0".join(sorted(tails)) + b"\0"
        self._texts = b"\0".join(sorted(texts))

    def reader(self, name: str) -> str | None:
        """A library that may read `name`, or None.

        Names of an unusual form (lower case, very short) are looked for in the libraries again.
        """
        if name in self._known:
            return self._known[name]
        if self._exposing:
            return self._exposing[0]
        encoded = name.encode("utf-8", "surrogateescape")
        known = encoded + b"\0" in self._tails or encoded in self._texts
        if known or not _USUAL.match(name):
            for path in self._paths:
                with _content(path) as content:
                    wanted = encoded + b"\0" if _terminates(content) else encoded
                    parts = program_parts(content)
                    if any(content.find(wanted, begin, end) >= 0 for begin, end in parts):
                        return path
        return None


def mapped() -> list[str]:
    """The files with executable code in this process."""
    found: dict[str, None] = {}
    with open("/proc/self/maps", "rb") as maps:
        for line in maps:
            fields = line.split(None, 5)
            if len(fields) == 6 and b"x" in fields[1] and fields[5].startswith(b"/"):
                found[fields[5].rstrip(b"\n").decode("utf-8", "surrogateescape")] = None
    return list(found)


def _known(path: str, *, listened: bool) -> tuple[str, ...] | None:
    """The names that a well-known library reads, unheard; None: it has to be searched."""
    for pattern, names in _KNOWN:
        if pattern.match(os.path.basename(path)):
            if listened:
                return _AT_START if pattern is _PYTHON else ()
            return None if pattern is _PYTHON and _contains(path, _INSIDE) else names
    return None


def _contains(path: str, text: bytes) -> bool:
    with _content(path) as content:
        return _has(content, text)


def _reads(path: str, *, heard: bool) -> bool:
    signs = _UNHEARD if heard else _UNHEARD + _CALLS
    with _content(path) as content:
        return any(_has(content, sign) for sign in signs)


def _exposes(path: str) -> bool:
    """Whether it hands getenv to Python: cffi's tables name it where a program refers to it."""
    with _content(path) as content:
        if not _has(content, _CFFI):
            return False
        parts = program_parts(content)
        names = [symbol for symbol in _CALLS + _UNHEARD[:3] if _has(content, symbol)]
        return any(content.find(name, begin, end) >= 0 for begin, end in parts for name in names)


def _terminates(content: mmap.mmap | bytes) -> bool:
    return not any(_has(content, mark) for mark in _UNTERMINATED)


def _has(content: mmap.mmap | bytes, text: bytes) -> bool:
    return content.find(text) >= 0


@contextmanager
def _content(path: str) -> Iterator[mmap.mmap | bytes]:
    """A file's bytes, mapped: read in, they would leave holes in the heap that forks share."""
    try:
        with open(path, "rb") as library:
            content = mmap.mmap(library.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        yield b""  # deleted since, empty, or not a file
        return
    with content:
        yield content
