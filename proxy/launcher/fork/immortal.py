"""Keeps the reference counts of preloaded code from being written, so that its pages stay shared.

Calling a function writes to the counts of the function, its code and its class, and every first
write to a page after a fork copies the page. Since 3.12 CPython has objects whose count is never
written (PEP 683). Here functions, code, classes, descriptors and modules that exist once everything
is imported, with their constants, are marked as such. They live as long as the process, which
they nearly always do anyway, and hold nothing whose end anybody waits for; instances are left
alone.

The mark is one well-known value in the low half of the count. It is made only by interpreters for
which that is known (64 bit, with the lock, no debug build), and only after a trial on an object of
our own. On the OpenHands agent server it saves 10 MB in each of the two processes, and a tenth of
the activation.
"""

from __future__ import annotations

import ctypes
import gc
import re
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Iterator

KNOWN = ((3, 12), (3, 13))  # later releases keep flags in the upper half
_MARK = 0xFFFFFFFF
_MRO = type.__dict__["__mro__"].__get__
_CONSTANTS = (str, bytes, tuple, frozenset)
_LEAVES = frozenset([str, bytes, int, float, complex])  # refer to nothing
_OWNED = frozenset([dict, list])  # parts of a logger
_KINDS = frozenset(
    [
        types.FunctionType,
        types.BuiltinFunctionType,
        types.GetSetDescriptorType,
        types.MemberDescriptorType,
        types.MethodDescriptorType,
        types.WrapperDescriptorType,
        types.ClassMethodDescriptorType,
        types.ModuleType,
        property,
        classmethod,
        staticmethod,
        type(re.compile("")),
    ]
)


def immortalize() -> int:
    """Mark what exists at this moment; returns how many objects, 0 where it cannot be done."""
    if not _possible():
        return 0
    count = 0
    for thing in gc.get_objects():
        # Nothing is asked of the things themselves: a lazy proxy would load what it stands for.
        kind = type(thing)
        if kind in _KINDS or issubclass(kind, type):
            _mark(thing)
            count += 1
            for part in _parts(thing, kind):
                _mark(part)
        for part in gc.get_referents(thing):
            if type(part) in _LEAVES:
                _mark(part)
    for logger in _loggers():
        _mark(logger)
        for part in (vars(logger), *vars(logger).values()):
            if type(part) in _OWNED:
                _mark(part)
    return count


def _loggers() -> list[object]:
    logging = sys.modules.get("logging")
    found = logging.Logger.manager.loggerDict.values() if logging else ()
    return [logger for logger in found if type(logger).__module__ == "logging"]


def _parts(thing: Any, kind: type) -> Iterator[object]:
    """What running a function, or looking something up in a class, counts as well."""
    if kind is types.FunctionType:
        yield from (thing.__defaults__, thing.__closure__, *(thing.__closure__ or ()))
        yield from _code(thing.__code__)
    elif issubclass(kind, type):
        yield _MRO(thing)
    for part in gc.get_referents(thing):  # the namespaces of modules, classes and functions
        if type(part) is dict:
            yield part


def _code(code: types.CodeType) -> Iterator[object]:
    yield from (code, code.co_consts, code.co_names, *code.co_names)
    for constant in code.co_consts:
        if type(constant) in _CONSTANTS:
            yield constant
        elif type(constant) is types.CodeType:
            yield from _code(constant)


def _possible() -> bool:
    if sys.version_info[:2] not in KNOWN or sys.implementation.name != "cpython":
        return False
    if ctypes.sizeof(ctypes.c_void_p) != 8 or hasattr(sys, "gettotalrefcount"):
        return False
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        return False
    return _works()


def _works() -> bool:
    """Whether an object that is marked has a count that no longer moves."""
    trial = [object()]
    if ctypes.c_uint32.from_address(id(trial[0])).value != 1:
        return False
    _mark(trial[0])
    before = sys.getrefcount(trial[0])
    more = [trial[0]] * 100
    return sys.getrefcount(more[0]) == before


def _mark(thing: object) -> None:
    ctypes.c_uint32.from_address(id(thing)).value = _MARK
