"""Which parts of a library are searched for the names of environment variables."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from proxy.launcher.audit.elf import program_parts
from proxy.launcher.audit.native import mapped


def library(sections: list[tuple[int, int, bytes]]) -> bytes:
    """An ELF file of sections, each of a type, flags and content."""
    body, headers = b"", b""
    for kind, flags, content in sections:
        headers += struct.pack(
            "<IIQQQQIIQQ", 0, kind, flags, 0, 64 + len(body), len(content), 0, 0, 1, 0
        )
        body += content
    head = b"\x7fELF\x02\x01".ljust(40, b"\0") + struct.pack("<Q", 64 + len(body))
    return head.ljust(58, b"\0") + struct.pack("<HHH", 64, len(sections), 0) + body + headers


def searched(content: bytes) -> list[bytes]:
    return [content[begin:end] for begin, end in program_parts(content)]


def test_data_and_code_are_searched_and_tables_of_symbols_are_not() -> None:
    content = library(
        [(1, 2, b"DATA\0"), (3, 2, b"SYMBOL\0"), (1, 6, b"CODE\0"), (1, 0, b"DEBUG\0")]
    )
    assert searched(content) == [b"DATA\0", b"CODE\0"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x7fELF\x01\x01 of 32 bit",
        library([]),
        library([(3, 2, b"only symbols")]),
        library([(1, 2, b"cut")])[:-10],
        library([(1, 2, b"x")]).replace(struct.pack("<Q", 1), struct.pack("<Q", 9999), 1),
    ],
)
def test_what_is_not_understood_is_searched_whole(content: bytes) -> None:
    assert searched(content) == [content]


@pytest.mark.skipif(sys.byteorder != "little", reason="the table read here is little-endian")
def test_the_literals_of_real_libraries_are_in_what_is_searched() -> None:
    [path] = [name for name in mapped() if "libc.so" in name][:1]
    content = Path(path).read_bytes()
    parts = searched(content)
    assert any(b"\0GCONV_PATH\0" in part for part in parts)
    assert sum(len(part) for part in parts) < len(content)
