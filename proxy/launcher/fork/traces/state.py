"""What of a process its modules share, and may leave otherwise than they would in a cold start.

Compared are a recorded upstream that was started cold and one that was started warm.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HOOKS = ("displayhook", "excepthook", "unraisablehook", "breakpointhook")


def shared() -> dict[str, Any]:
    """By the words for it, something that JSON keeps as it is. Nothing is imported for it."""
    return {
        "logging": _logging(),
        "signal handlers": [_text(_handler(number)) for number in range(1, signal.NSIG)],
        "hooks": [_text(getattr(sys, name, None)) for name in _HOOKS],
        "the import system": [
            [_text(type(finder)) for finder in sys.meta_path],
            [_text(hook) for hook in sys.path_hooks],
            list(sys.path),
        ],
        "the working directory": os.getcwd(),
    }


def whole() -> dict[str, Any]:
    """With what the program itself has a hand in."""
    return dict(
        shared(),
        arguments=[list(sys.argv), list(getattr(sys, "orig_argv", ()))],
        main=sorted(name for name in vars(sys.modules["__main__"]) if name.startswith("__")),
        loggers=_disabled_loggers(),
    )


def difference(cold: dict[str, Any], warm: dict[str, Any]) -> str | None:
    """What differs, by the words for it."""
    return next((what for what in cold if cold[what] != warm.get(what)), None)


def _handler(number: int) -> object:
    try:
        return signal.getsignal(number)
    except ValueError:
        return None


def _logging() -> list[Any]:
    logging = sys.modules.get("logging")
    if logging is None:
        return [0]
    root = logging.root
    handlers = [[_text(type(handler)), handler.level] for handler in root.handlers]
    return [logging.root.manager.disable, root.level, root.disabled, handlers]


def _disabled_loggers() -> list[str]:
    logging = sys.modules.get("logging")
    loggers = logging.root.manager.loggerDict if logging is not None else {}
    return sorted(n for n, logger in list(loggers.items()) if getattr(logger, "disabled", False))


def _text(value: object) -> str:
    """The name of a function or class; addresses and contents of objects differ always."""
    name = getattr(value, "__qualname__", None)
    if name is None:
        return str(value) if isinstance(value, (int, type(None))) else type(value).__qualname__
    return "%s.%s" % (getattr(value, "__module__", None), name)
