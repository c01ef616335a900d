"""A process that has imported the proxy, and forks one for each start that it is asked for.

Importing all of it takes an interpreter some 0.4 s of processor, hundreds of times in a run of the
tests. A fork is given what exec would give it (arguments, environment, directory, standard streams)
and is then what `python -m proxy` is after its imports: a process of its own, in the proxy's own
`main`. Who looks at the start itself has the proxy executed, and so has who looks at what exec
makes: the command line and the first environment in /proc, memory, what is read at import.

    python -m tests.zygote FD     on a Unix socket of kind SEQPACKET; until that is closed

A request is JSON (`program` is a module with a `main`) beside descriptors: 0, 1 and 2, and one to
write the exit code to, as `subprocess` has it (negative for a signal). The answer is the pid.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import socket
import sys
from contextlib import suppress
from typing import Any, Final

# What `serve` imports, at its start or when it needs it, and the sample agent.
_MODULES: Final = (
    *("proxy.cli", "proxy.commands.serve", "proxy.server.serve", "proxy.settings"),
    *("proxy.control.metrics", "proxy.control.openapi", "yaml", "proxy.demo.agent"),
)
_LARGEST: Final = 2**20  # bytes of a request
_STREAMS: Final = 3


def main() -> int:
    """Fork on request; in a fork, run the proxy. Returns the exit code of either."""
    for name in _MODULES:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # else every collection in a fork copies all of it
    with socket.socket(fileno=int(sys.argv[1])) as asked:
        request = _fork_on_request(asked)
    if request is None:
        return 0
    sys.argv[1:] = request["arguments"]
    return int(sys.modules[request["program"]].main())


def _fork_on_request(asked: socket.socket) -> dict[str, Any] | None:
    """What was asked, in a fork; here, None once there is nobody to ask."""
    forks: dict[int, tuple[int, int]] = {}  # by the descriptor of each: its pid, and whom to tell
    events = select.poll()
    events.register(asked, select.POLLIN)
    while True:
        for descriptor, _ in events.poll():
            if descriptor in forks:
                events.unregister(descriptor)
                _tell(descriptor, *forks.pop(descriptor))
                continue
            message, given, _, _ = socket.recv_fds(asked, _LARGEST, _STREAMS + 1)
            if not message:
                return None
            pid = os.fork()
            if pid == 0:
                asked.detach()
                request: dict[str, Any] = json.loads(message)
                _settle(request, given)
                return request
            held = os.pidfd_open(pid)
            events.register(held, select.POLLIN)
            forks[held] = (pid, given.pop())
            for stream in given:
                os.close(stream)
            asked.send(b"%d" % pid)


def _tell(held: int, pid: int, report: int) -> None:
    _, status = os.waitpid(pid, 0)
    with suppress(BrokenPipeError):  # nobody waits
        os.write(report, b"%d" % os.waitstatus_to_exitcode(status))
    os.close(report)
    os.close(held)


def _settle(request: dict[str, Any], given: list[int]) -> None:
    """Take what was given, and leave what exec would close."""
    for number, stream in enumerate(given[:_STREAMS]):
        os.dup2(stream, number)
    os.closerange(_STREAMS, os.sysconf("SC_OPEN_MAX"))
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["directory"])


if __name__ == "__main__":
    sys.exit(main())
