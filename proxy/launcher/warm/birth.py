"""From the launcher to a fork server: its command line, its code, its descriptors."""

from __future__ import annotations

import json
import os
import signal

from ..errors import cause
from ..kernel.prctl import die_with
from ..upstream.child import close_from_3, default_signals, stdio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..session.command import Command

FD = 3
PACKAGE = "deferred_init_launcher"  # as in __main__: a name that no upstream has
# Short, so that the upstream's own command line fits over it (`child_of_fork._retitle`).
_LOADER = "import os;exec(os.read(3,4096))"
_BOOT = """
def boot():
    import sys
    package = type(sys)(%r)
    package.__path__ = [%r]
    sys.modules[package.__name__] = package
    from %s.fork.forkserver import main
    return main()
boot()()
"""


def boot_code() -> bytes:
    """What the fork server executes first; it finds the rest of it where the launcher's code is."""
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return (_BOOT % (PACKAGE, home, PACKAGE)).encode()


def run(  # noqa: PLR0917
    command: Command, cwd: str | None, env: dict[bytes, bytes], fd: int, stdout: int, stderr: int
) -> int:
    """Start it with `fd` as its descriptor 3; returns its pid. Raises `OSError`."""
    argv = loader_argv(command)
    launcher = os.getpid()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, cwd, env, stdout, stderr, fd, launcher)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def loader_argv(command: Command) -> list[str]:
    """The fork server's own command line, as long as the upstream's where that is longer."""
    argv = [command.argv[0], *command.flags, "-c", _LOADER]
    missing = _length(command.argv) - _length(argv)
    return [*argv[:-1], argv[-1] + "#" * missing] if missing > 0 else argv


def _length(argv: list[str]) -> int:
    return sum(len(os.fsencode(item)) + 1 for item in argv)


def _become(  # noqa: PLR0917
    argv: list[str],
    cwd: str | None,
    env: dict[bytes, bytes],
    stdout: int,
    stderr: int,
    fd: int,
    launcher: int,
) -> NoReturn:
    try:
        os.setsid()
        die_with(launcher)
        stdio(stdout, stderr)
        if fd != FD:
            os.dup2(fd, FD)
        os.set_inheritable(FD, True)
        close_from_3(keep=FD)
        if cwd is not None:
            os.chdir(cwd)
        default_signals()
        os.execvpe(argv[0], argv, env)
    except OSError as error:
        # The launcher reads it like a line of the fork server's own.
        where = "" if cwd is None else " in %s" % cwd
        why = "cannot run %s%s: %s" % (argv[0], where, cause(error))
        os.write(FD, json.dumps({"event": "failed", "why": why}).encode() + b"\n")
    finally:
        os._exit(127)
