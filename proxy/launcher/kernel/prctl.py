"""Process attributes by prctl(2).

ctypes is the only way to it in the standard library. An interpreter without ctypes cannot run the
launcher: it would leave orphans behind, so the import error is let out and the controller takes
another interpreter.
"""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1
PR_SET_DUMPABLE = 4
PR_SET_CHILD_SUBREAPER = 36

_prctl = ctypes.CDLL(None, use_errno=True).prctl
_prctl.argtypes = [ctypes.c_int] + [ctypes.c_ulong] * 4
_prctl.restype = ctypes.c_int


def prctl(option: int, value: int) -> None:
    """Set one attribute of the calling process; raises `OSError`."""
    if _prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def die_with(launcher: int) -> None:
    """Be killed when the launcher, our parent, dies, however it dies."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != launcher:  # it died before the line above
        os._exit(127)
