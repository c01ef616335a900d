"""What cannot wait for the imports: signals, and the three descriptors everybody relies on.

Importing takes a few tenths of a second. Until somebody catches it, SIGTERM is fatal to an ordinary
process, and without any effect on PID 1, which then runs on until it is killed. So `serve`
catches it before everything else, and the server asks what came.

This module is imported first: it must not import anything that takes time.
"""

from __future__ import annotations

import os
import signal
import sys

# Each asks for an orderly shutdown; an image may have chosen any of them as its `STOPSIGNAL`.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)
# What means something to the upstream, if to anybody.
PASSED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)

_came: list[int] = []


def remember_signals(arguments: list[str]) -> None:
    """Catch the stop signals if `arguments` are those of `serve`; harmless to repeat.

    The others are dropped: there is no upstream yet, and they would be fatal.
    """
    if arguments[:1] == ["serve"]:
        for number in heeded_signals():
            signal.signal(number, _remember)
        for number in PASSED_SIGNALS:
            signal.signal(number, _drop)


def heeded_signals() -> list[signal.Signals]:
    """The stop signals, but SIGHUP where whoever started us (nohup) has it ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in STOP_SIGNALS if number != signal.SIGHUP or not ignored]


def _drop(_number: int, _frame: object) -> None:
    pass


def _remember(number: int, _frame: object) -> None:
    if _came:
        # Asked twice, while something hangs: nothing was started, so nothing is left behind. Not by
        # an exception, which is swallowed in callbacks such as importing has at every module.
        os._exit(0)
    _came.append(number)


def ensure_standard_streams() -> None:
    """Make 0, 1 and 2 exist: a socket of ours with such a number would get a child's output."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    # None where there was none; typeshed does not know.
    sys.stdout = sys.stdout or os.fdopen(1, "w")
    sys.stderr = sys.stderr or os.fdopen(2, "w")


def remembered_signals() -> list[int]:
    """Those that came; to be asked for when others than this module catch them."""
    return list(_came)
