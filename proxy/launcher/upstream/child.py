"""From fork to exec: the few steps that make a clean process of its own.

Written for a launcher with one thread; nothing here may run the event loop.
"""

from __future__ import annotations

import errno
import os
import select
import signal

from ..errors import LaunchError
from ..kernel.prctl import die_with
from ..session.spec import raw

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SETUP_LIMIT = 10.0  # seconds from fork to exec; only a dead network file system takes that long


def run(argv: list[str], cwd: str | None, env: dict[bytes, bytes], stdout: int, stderr: int) -> int:
    """Start `argv`; returns the pid of the leader of its session and group.

    The program is looked for on the PATH of `env`. Raises `LaunchError` when it cannot be executed.
    """
    launcher = os.getpid()
    read, write = os.pipe()
    # No signal may reach our handlers in the child; exec restores what is blocked here.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(argv, cwd, env, stdout, stderr, write, launcher)
    except OSError as error:
        os.close(read)
        raise LaunchError("cannot start %s: %s" % (argv[0], error.strerror)) from None
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.close(write)
    try:
        report = _report(read)
    finally:
        os.close(read)
    if report is None:
        os.kill(pid, signal.SIGKILL)  # reaped like any orphan, whenever that is
        raise LaunchError("cannot start %s: no exec within %d s" % (argv[0], SETUP_LIMIT))
    if report:
        os.waitpid(pid, 0)
        step, _, number = report.decode().partition(":")
        what = {"cwd": "cannot enter %s: " % cwd, "interpreter": "its interpreter: "}.get(step, "")
        raise LaunchError("cannot start %s: %s%s" % (argv[0], what, os.strerror(int(number))))
    return pid


def _report(fd: int) -> bytes | None:
    """What the child says before exec closes its end: b"" is success, None is silence."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(SETUP_LIMIT * 1000):
        return None
    return os.read(fd, 100)


def _become(  # noqa: PLR0917  one call, in the child
    argv: list[str],
    cwd: str | None,
    env: dict[bytes, bytes],
    stdout: int,
    stderr: int,
    status: int,
    launcher: int,
) -> NoReturn:
    """Turn the forked child into the upstream. Never returns."""
    step = "exec"
    try:
        os.setsid()
        die_with(launcher)
        stdio(stdout, stderr)
        close_from_3(keep=status)
        if cwd is not None:
            step = "cwd"
            os.chdir(raw(cwd))
            step = "exec"
        default_signals()
        os.execvpe(raw(argv[0]), [raw(item) for item in argv], env)
    except OSError as error:
        if step == "exec" and error.errno == errno.ENOENT and os.path.exists(raw(argv[0])):
            step = "interpreter"  # of a script: the kernel does not say which file is missing
        os.write(status, ("%s:%d" % (step, error.errno or 0)).encode())
    finally:
        os._exit(127)


def stdio(stdout: int, stderr: int) -> None:
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)


def close_from_3(keep: int) -> None:
    """Close every descriptor from 3 up but `keep`, those marked inheritable by others too."""
    for name in os.listdir("/proc/self/fd"):
        fd = int(name)
        if fd > 2 and fd != keep:
            try:
                os.close(fd)
            except OSError:
                pass  # the one that listed the directory


def default_signals() -> None:
    """Unblock every signal, its action the default (Python ignores SIGPIPE, nohup SIGHUP)."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        try:
            signal.signal(number, signal.SIG_DFL)
        except OSError:
            pass  # kept by the C library for itself
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
