"""What is called in C from Python: the interpreter tells of a look at a function, not of its call.

With ctypes the audit hears which symbol is asked for. With cffi it hears nothing; but whoever calls
a function through it declares it before, in the source of a module that names cffi, and that source
is heard when it is executed. A module whose declarations are compiled is a library (`native`).
"""

from __future__ import annotations

import re
import sys
from types import CodeType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Iterator

# What the C library has the environment by, and what starts a program, which is handed it.
_ENVIRONMENT = (
    "getenv|secure_getenv|__secure_getenv|environ|__environ|_environ"
    "|system|popen|fork|vfork|clone|clone3|syscall|wordexp|dlsym|exec[lv]p?e?|execveat|fexecve"
    "|posix_spawnp?"
)
_FILES = (
    "open(at|at2)?(64)?|creat(64)?|f(re)?open(64)?|opendir|scandir(at)?(64)?|readlink(at)?|realpath"
    "|canonicalize_file_name|(l|f)?stat(at|vfs|fs)?(64)?|statx|__(l|f)?xstat(at)?(64)?"
    "|(eu?id)?access|faccessat2?|glob(64)?|n?ftw(64)?|fts_open|link(at)?|symlink(at)?"
    "|rename(at|at2)?"
)
_READS_ENVIRONMENT = re.compile("^(%s)$" % _ENVIRONMENT)
_READS_FILES = re.compile("^(%s)$" % _FILES)
# Declarations are C; generated ones are names behind a number of four bytes.
_C = r"(?<![A-Za-z0-9_])(%s)\s*[(;\[]"
_GENERATED = r"^[\x00-\xff]{4}(%s)$"
_DECLARE_ENVIRONMENT = tuple(re.compile(kind % _ENVIRONMENT) for kind in (_C, _GENERATED))
_DECLARE_FILES = tuple(re.compile(kind % _FILES) for kind in (_C, _GENERATED))
_CFFI = frozenset(["cffi", "_cffi_backend", "cdef"])


def reads(name: object) -> tuple[bool, bool]:
    """Whether the function of that name in a C library tells of the environment, and of files."""
    if isinstance(name, bytes):
        name = name.decode("ascii", "replace")
    if not isinstance(name, str):
        return False, False
    environment = bool(_READS_ENVIRONMENT.match(name))
    return environment, environment or bool(_READS_FILES.match(name))


def declares(code: object) -> tuple[bool, bool]:
    """The same of all that a module declares to cffi."""
    if not isinstance(code, CodeType):
        return False, False
    parts = list(_parts(code))
    if not any(_CFFI.intersection(part.co_names) for part in parts):
        return False, False
    texts = [text for part in parts for text in _texts(part.co_consts)]
    environment = any(kind.search(text) for kind in _DECLARE_ENVIRONMENT for text in texts)
    files = any(kind.search(text) for kind in _DECLARE_FILES for text in texts)
    return environment, environment or files


def executed() -> str | None:
    """The module whose code the import system is about to execute; None when it is not about to."""
    frame = sys._getframe(3)  # noqa: SLF001  behind the audit's own
    while frame is not None and str(frame.f_globals.get("__name__")).startswith("importlib."):
        module = frame.f_locals.get("module")
        if frame.f_code.co_name == "exec_module" and module is not None:
            return str(module.__name__)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _parts(code: CodeType) -> Iterator[CodeType]:
    waiting = [code]
    while waiting:
        part = waiting.pop()
        yield part
        waiting += [constant for constant in part.co_consts if isinstance(constant, CodeType)]


def _texts(constants: tuple[object, ...]) -> Iterator[str]:
    for constant in constants:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, bytes):
            yield constant.decode("latin-1")
        elif isinstance(constant, tuple):
            yield from _texts(constant)
