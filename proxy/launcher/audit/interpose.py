"""Hears getenv(3), whoever calls it in C, while modules are preloaded.

A jump to a function of ours is written over the begin of the C library's getenv: it notes the name,
with the imports that are under way, and answers as the C library would; secure_getenv and the C
library itself come by there as well. `remove` puts the bytes back. Where it cannot be written
(another machine, a kernel that forbids it) nothing is heard, and `native` has to guess from texts.

Not heard are libraries that go through `environ` themselves, and Go's, which have what the kernel
gave them.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

_POINTER = ctypes.sizeof(ctypes.c_void_p)
_WRITABLE = mmap.PROT_READ | mmap.PROT_WRITE | getattr(mmap, "PROT_EXEC", 4)
_CODE = mmap.PROT_READ | getattr(mmap, "PROT_EXEC", 4)
# movabs r11, ADDRESS; jmp r11. The register is nobody's at the begin of a function.
_JUMPS = {"x86_64": (b"\x49\xbb", b"\x41\xff\xe3")}


class Interposed:
    """`hear(name)` is called with each name that is asked for."""

    def __init__(self, hear: Callable[[bytes], None]) -> None:
        self._hear = hear
        self._library: Any = None
        self._environ: Any = None
        self._address = 0
        self._before = b""
        # With errno as the caller has left it.
        self._function = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, use_errno=True)(
            self._getenv
        )

    def install(self) -> bool:
        """Returns whether calls will be heard."""
        jump = _JUMPS.get(os.uname().machine)
        if jump is None or _POINTER != 8:
            return False
        try:
            self._library = library = ctypes.CDLL(None)
            self._environ = ctypes.c_void_p.in_dll(library, "environ")
            address = ctypes.cast(library.getenv, ctypes.c_void_p).value or 0
        except (OSError, AttributeError, ValueError):
            return False  # an interpreter that is linked statically
        library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        target = ctypes.cast(self._function, ctypes.c_void_p).value
        code = jump[0] + struct.pack("<Q", target) + jump[1]
        self._before = ctypes.string_at(address, len(code))
        if not self._write(address, code):
            return False
        self._address = address
        return True

    def remove(self) -> None:
        if self._address:
            self._write(self._address, self._before)
            self._address = 0

    def _write(self, address: int, code: bytes) -> bool:
        begin = address & -mmap.PAGESIZE
        size = address + len(code) - begin
        if self._library.mprotect(begin, size, _WRITABLE):
            return False
        ctypes.memmove(address, code, len(code))
        self._library.mprotect(begin, size, _CODE)
        return True

    def _getenv(self, pointer: int | None) -> int | None:
        if pointer is None or not self._environ.value:
            return None
        name = ctypes.string_at(pointer)
        self._hear(name)
        wanted, place = name + b"=", self._environ.value
        while True:
            entry = ctypes.c_void_p.from_address(place).value
            if entry is None:
                return None
            if ctypes.string_at(entry).startswith(wanted):
                return entry + len(wanted)
            place += _POINTER
