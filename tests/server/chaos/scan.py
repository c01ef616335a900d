"""Looks for bytes in everything that a process has: memory, arguments, descriptors.

Nothing is taken away by looking: what waits in a pipe or in a socket is only peeked at. For the
processes that are not dumpable it takes root, or CAP_SYS_PTRACE.
"""

from __future__ import annotations

import base64
import ctypes
import errno
import os
import re
import socket
import stat
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.launcher.launching import alive

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)")
_KERNELS = ("[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]")
_CHUNK = 4 * 1024 * 1024
_AROUND = 60  # bytes shown on each side
_PIDFD_GETFD = 438
_SPLICE_F_NONBLOCK = 2
_libc = ctypes.CDLL(None, use_errno=True)


def everything_in(directory: Path) -> Iterator[Path]:
    """Every path below it, but for what is removed meanwhile."""

    def missed(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    for place, directories, files in os.walk(directory, onerror=missed):
        yield from (Path(place, name) for name in (*directories, *files))


class Found(NamedTuple):
    where: str
    around: str


class Canary:
    """Random bytes that are nowhere else, in every spelling that a program may keep them in."""

    def __init__(self, text: str | None = None) -> None:
        self.text = text or "canary" + os.urandom(9).hex()
        plain = self.text.encode()
        self.spellings = [plain, self.text.encode("utf-16-le"), self.text.encode("utf-32-le")]
        for shift in range(3):  # base64 of what it is part of; the ends depend on the neighbours
            self.spellings.append(base64.b64encode(b"\0" * shift + plain)[4:-4])
        self._longest = max(map(len, self.spellings))

    def within(self, data: bytes, where: str) -> Iterator[Found]:
        for spelling in self.spellings:
            at = data.find(spelling)
            while at >= 0:
                around = data[max(0, at - _AROUND) : at + len(spelling) + _AROUND]
                yield Found(where, around.decode("latin-1"))
                at = data.find(spelling, at + 1)

    def in_process(self, pid: int) -> list[Found]:
        """Empty for one that ends meanwhile."""
        try:
            found = [*self._in_memory(pid), *self._in_descriptors(pid)]
            for name in ("environ", "cmdline", "comm", "maps"):
                found += self.within(Path(f"/proc/{pid}/{name}").read_bytes(), name)
        except OSError:
            if alive(pid):
                raise
            return []
        return found

    def in_directory(self, directory: Path) -> list[Found]:
        """Names and contents, of what is not removed meanwhile."""
        found: list[Found] = []
        for path in everything_in(directory):
            found += self.within(os.fsencode(path.relative_to(directory)), f"the name {path}")
            with suppress(FileNotFoundError):
                if path.is_symlink():
                    found += self.within(os.fsencode(path.readlink()), str(path))
                elif path.is_file():
                    found += self.within(path.read_bytes(), str(path))
        return found

    def _in_memory(self, pid: int) -> Iterator[Found]:
        with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                matched = _MAPPING.fullmatch(line)
                assert matched is not None, line
                start, end = int(matched[1], 16), int(matched[2], 16)
                if "r" in matched[3] and matched[4] not in _KERNELS:
                    yield from self._in_mapping(memory.fileno(), start, end, matched[4])

    def _in_mapping(self, memory: int, start: int, end: int, name: str) -> Iterator[Found]:
        at = start
        kept = b""
        while at < end:
            try:
                data = os.pread(memory, min(_CHUNK, end - at), at)
            except OSError as error:
                # Beyond the end of a mapped file, or unmapped meanwhile.
                if error.errno not in {errno.EIO, errno.EFAULT}:
                    raise
                return
            if not data:
                return
            yield from self.within(kept + data, f"memory {name or 'anonymous'} {at:x}")
            kept = data[-self._longest + 1 :]
            at += len(data)

    def _in_descriptors(self, pid: int) -> Iterator[Found]:
        pidfd = os.pidfd_open(pid)
        try:
            for link in Path(f"/proc/{pid}/fd").iterdir():
                where = f"descriptor {link.name}: {link.readlink()}"
                with _duplicate(pidfd, int(link.name)) as fd:
                    yield from self.within(_content(fd), where)
        finally:
            os.close(pidfd)


@contextmanager
def _duplicate(pidfd: int, number: int) -> Iterator[int]:
    fd = _libc.syscall(_PIDFD_GETFD, pidfd, number, 0)
    if fd < 0:
        raise OSError(ctypes.get_errno(), f"cannot look into descriptor {number}")
    try:
        yield fd
    finally:
        os.close(fd)


def _content(fd: int) -> bytes:
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return Path(f"/proc/self/fd/{fd}").read_bytes()
    if stat.S_ISFIFO(mode):
        return _waiting_in_pipe(fd)
    if stat.S_ISSOCK(mode):
        return _waiting_in_socket(fd)
    return b""


def _waiting_in_pipe(fd: int) -> bytes:
    read, write = os.pipe()
    try:
        copied = _libc.tee(fd, write, _CHUNK, _SPLICE_F_NONBLOCK)
        return os.read(read, copied) if copied > 0 else b""  # -1: the end that is written to
    finally:
        os.close(read)
        os.close(write)


def _waiting_in_socket(fd: int) -> bytes:
    with socket.socket(fileno=os.dup(fd)) as end:
        try:
            return end.recv(_CHUNK, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return b""  # nothing waits, or it listens
