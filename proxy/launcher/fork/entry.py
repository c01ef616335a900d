"""Runs a command inside a process that is already running, as the interpreter would have.

`arrange` sets what modules can see while they are imported; `run` is what `Py_RunMain` does with
`-m` or a script. Read beside CPython's Modules/main.c and Python/pathconfig.c.
"""

from __future__ import annotations

import importlib.machinery
import os
import runpy
import sys

from ..session.command import Unsuitable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from typing import Any

    from ..session.command import Command

_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# What the namespace of `__main__` holds before anything has run in it.
_FRESH = (
    "__name__",
    "__doc__",
    "__package__",
    "__loader__",
    "__spec__",
    "__annotations__",
    "__builtins__",
)


def arrange(command: Command) -> None:
    """Set `sys.argv`, `sys.orig_argv`, `sys.path[0]` and an untouched `__main__`.

    The process must have been started with `-c` and the same flags; the working directory must be
    the command's. Raises `Unsuitable`.
    """
    if command.kind == "script" and _is_importable(command.target):
        raise Unsuitable("%s is a directory or an archive" % command.target)
    main = vars(sys.modules["__main__"])
    for name in [name for name in main if name not in _FRESH]:
        del main[name]
    if hasattr(sys, "orig_argv"):
        sys.orig_argv[:] = command.argv
    sys.argv[:] = [_argv0(command), *command.args]
    # -I and -P (and PYTHONSAFEPATH) put nothing in front; -c has put "" there otherwise.
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        if sys.path and sys.path[0] == "":
            del sys.path[0]
        sys.path.insert(0, _path0(command))


def _argv0(command: Command) -> str:
    """A module's file, as it is while the command runs; nothing is imported to find it."""
    if command.kind == "script":
        return command.target
    saved = sys.path[:]
    sys.path.insert(0, _path0(command))
    try:
        return _origin(command.target) or "-m"
    finally:
        sys.path[:] = saved


def is_there(module: str) -> bool:
    """Whether it could be imported; nothing is, to find out."""
    return _spec(module) is not None


def _origin(module: str) -> str | None:
    spec = _spec(module)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find(module + ".__main__", spec.submodule_search_locations)
    return spec.origin if spec else None


def _spec(module: str) -> Any:
    path: Any = None
    spec = None
    for name in _parents(module):
        spec = _find(name, path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or ()
    return spec


def _parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]


def _find(name: str, path: Any) -> Any:
    for finder in sys.meta_path:
        spec = finder.find_spec(name, path)
        if spec is not None:
            return spec
    return None


def _path0(command: Command) -> str:
    if command.kind == "module":
        return os.getcwd()
    return os.path.dirname(os.path.realpath(command.target))


def _is_importable(path: str) -> bool:
    """Whether the interpreter would look for a `__main__` inside of `path`."""
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def is_own_module(command: Command) -> bool:
    """Whether the module to be run has been imported already: it would run twice."""
    module = sys.modules.get(command.target) if command.kind == "module" else None
    return module is not None and not hasattr(module, "__path__")


def run(command: Command) -> None:
    """Run to the end; the interpreter's own ending comes after it, through SystemExit or a return.

    An exception is shown without the frames below `__main__`, and ends the process as it would.
    """
    try:
        if command.kind == "module":
            sys.argv[0] = "-m"  # until the module is found
            runpy._run_module_as_main(command.target)  # type: ignore[attr-defined]  # noqa: SLF001
        else:
            _run_script(command.target)
    except SystemExit:
        raise
    except BaseException as error:
        _show(error)
        raise


def _run_script(path: str) -> None:
    main = vars(sys.modules["__main__"])
    # Absolute since 3.9, but not normalized.
    name = os.path.join(os.getcwd(), path) if sys.version_info >= (3, 9) else path
    main["__file__"] = name
    if sys.version_info < (3, 15):
        main["__cached__"] = None
    main["__loader__"] = importlib.machinery.SourceFileLoader("__main__", name)
    try:
        with open(path, "rb") as script:
            source = script.read()
    except OSError as error:
        text = "%s: can't open file %r: [Errno %d] %s\n"
        sys.stderr.write(text % (sys.executable, name, error.errno or 0, error.strerror))
        raise SystemExit(2) from None
    exec(compile(source, name, "exec", dont_inherit=True), main)


def _show(error: BaseException) -> None:
    """What the interpreter does with an exception that nobody caught, minus our own frames."""
    trace = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame):
        trace = trace.tb_next
    error.__traceback__ = trace
    _remember(error, trace)
    sys.audit("sys.excepthook", sys.excepthook, type(error), error, trace)
    sys.excepthook(type(error), error, trace)
    # It is raised on for its consequences (exit code, death by SIGINT), not to be shown again.
    sys.excepthook = _shown


def _remember(error: BaseException, trace: TracebackType | None) -> None:
    if sys.version_info >= (3, 12):
        sys.last_exc = error
    sys.last_type, sys.last_value, sys.last_traceback = type(error), error, trace


def _shown(*_: object) -> None:
    pass


def _is_ours(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    return name in ("<string>", "<fork server>") or name.startswith(_HOME + os.sep)
