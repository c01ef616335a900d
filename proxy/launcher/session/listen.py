"""The launcher in a container of its own: waits on a Unix socket for its controller.

The launcher itself knows one controller, for ever, over a socket pair. This is the other end of
that pair: it lets one controller in at a time, passes lines both ways, and keeps what a controller
that comes back has to know. So the upstream outlives the proxy beside it.

Who may be the controller. Code that the upstream runs (an agent's, as the same user, in the same
container) can reach whatever lies at `path`, and take its place: nothing that is said there proves
anything. So it is used once. The first controller after the launcher's start, when nothing of an
upstream can be running here, brings a listening socket, bound in a directory that only its own
container has, and hands it over (SCM_RIGHTS). From then on controllers come through that one alone:

    proxy    -> {"op": "identify", "version": 1}  and the socket        at `path`, the first one
    launcher -> {"ok": true} | {"ok": false, "error": …}                and hangs up
    launcher -> {"event": "hello", …, "running": {"pid": …, "start": {…}}|null}     at the other one
             | {"event": "refused", "why": …}

`start` is the start message of the upstream that runs as `pid`.

What that is worth. Nobody but this process has the socket that was handed over: it is passed to no
child, and this process is not dumpable (pidfd_getfd(2), /proc/PID/fd). Nobody in this container has
its name. So a controller that is answered there speaks with the launcher that it knows, and nobody
is in between; and when nobody answers (ECONNREFUSED), that launcher has ended and, as the first
process of its container, everything of an upstream's with it. Only then does a controller come to
`path` again. A launcher that is not its container's first process has to end with it.
"""

from __future__ import annotations

import os
import signal
import socket
import stat
import struct

from ..errors import LaunchError, cause
from ..kernel.loop import READ
from .handover import Peer, is_listening
from .wire import VERSION, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.loop import Loop

PEERS_LIMIT = 8  # at one time; more than one only while somebody tries


class Door:
    """Listens at `path`; `inner` is the descriptor that the launcher is served through."""

    def __init__(self, loop: Loop, path: str, inner: int) -> None:
        self._loop = loop
        self._path = path
        self._peers: list[Peer] = []
        self._private: socket.socket | None = None
        self._controller: Session | None = None
        self._leaving = False
        self._numbers = 0
        self._asked: dict[int, tuple[Session | None, Any, dict[str, Any]]] = {}
        self._hello: dict[str, Any] = {}
        self._pid: int | None = None
        self._start: dict[str, Any] | None = None
        self._prepared: dict[str, Any] | None = None
        self._warmth: dict[str, Any] | None = None
        self._listener = _listen(path)
        self._inner = Session(loop, inner, self._from_launcher)

    def take_signals(self) -> None:
        """The first TERM is the controller's affair: it drains, stops, and hangs up."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            self._loop.on_signal(number, self._told_to_end)

    def close(self) -> None:
        self._listener.close()
        try:
            os.unlink(self._path)
        except OSError:
            pass

    # Who comes

    def _accept(self, _events: int) -> None:
        connection = _accepted(self._listener)
        if connection is None:
            return
        if _uid(connection) not in (0, os.geteuid()) or len(self._peers) >= PEERS_LIMIT:
            connection.close()
            return
        self._peers.append(Peer(self._loop, connection, self._identified, self._peers.remove))

    def _identified(self, message: dict[str, Any], brought: list[int]) -> None:
        """Listen at the socket that a controller has `brought`. Raises `LaunchError`."""
        if message.get("op") != "identify":
            raise LaunchError("the first thing to say here is identify")
        if message.get("version") != VERSION:
            raise LaunchError("the version spoken here is %d" % VERSION)
        if self._private is not None:
            raise LaunchError("another controller was here before, and this launcher is its own")
        if len(brought) != 1 or not is_listening(brought[0]):
            raise LaunchError("a listening socket must come with it")
        self._private = socket.socket(fileno=os.dup(brought[0]))
        self._private.setblocking(False)
        self._loop.watch(self._private.fileno(), READ, self._enter)

    def _enter(self, _events: int) -> None:
        """A controller has come, through the socket that is the controllers' own."""
        assert self._private is not None
        connection = _accepted(self._private)
        if connection is None:
            return
        session = Session(self._loop, connection.detach(), self._pass_on)
        if self._controller is not None:
            session.send({"event": "refused", "why": "there is a controller"})
            session.close()
            return
        self._controller = session
        session.on_drained = self._drained
        running = None if self._pid is None else {"pid": self._pid, "start": self._start}
        session.send(dict(self._hello, running=running))

    def _drained(self) -> None:
        """Called when the queue was emptied, and when the connection has ended."""
        if self._controller is not None and self._controller.gone:
            self._controller = None
            if self._leaving:
                self._inner.close()

    def _told_to_end(self) -> None:
        if self._leaving or self._controller is None:
            self._inner.close()  # as for a launcher whose controller is gone: stop and undo
        else:
            self._controller.send({"event": "leaving"})
        self._leaving = True

    # Lines

    def _pass_on(self, message: dict[str, Any]) -> None:
        """From the controller to the launcher, under a number of our own."""
        peer, outer = self._controller, message.get("id")
        if peer is None or peer.gone:
            return
        if message.get("op") == "prepare":
            prepared = {key: value for key, value in message.items() if key != "id"}
            if prepared == self._prepared:
                # A controller that has come back: what is warm stays warm.
                peer.send({"id": outer, "ok": True})
                if self._warmth is not None:
                    peer.send(self._warmth)
                return
            self._prepared, self._warmth = prepared, None
        self._numbers += 1
        self._asked[self._numbers] = (peer, outer, message)
        self._inner.send(dict(message, id=self._numbers))

    def _from_launcher(self, message: dict[str, Any]) -> None:
        event = message.get("event")
        if event is None:
            self._answered(message)
            return
        if event == "hello":
            self._hello = message
            self._loop.watch(self._listener.fileno(), READ, self._accept)
            return
        if event == "exit" and message.get("pid") == self._pid:
            self._pid = self._start = None
        elif event in ("warm", "cold"):
            self._warmth = message
        elif event == "warming":
            self._warmth = None
        peer = self._controller
        # Nobody waits for lost lines; the rest is little.
        if peer is not None and not (event == "output" and peer.congested):
            peer.send(message)

    def _answered(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        peer, outer, asked = self._asked.pop(number, (None, None, {})) if number else (None,) * 3
        if asked and message.get("ok") and asked.get("op") in ("start", "given"):
            self._pid = message["pid"]
            hidden = ("id", "op", "version")
            self._start = {key: value for key, value in asked.items() if key not in hidden}
        if peer is not None and peer is self._controller:
            peer.send(dict(message, id=outer))


def serve(loop: Loop, path: str, launcher: Any) -> None:
    """Serve at `path` until told to end. `launcher(fd)` makes what is served."""
    inner, outer = socket.socketpair()
    door = Door(loop, path, outer.detach())
    try:
        served = launcher(inner.detach())
        door.take_signals()
        served.serve()
    finally:
        door.close()


def _listen(path: str) -> socket.socket:
    """Raises `LaunchError`. What a predecessor has left at `path` gives way."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        if os.path.lexists(path):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                raise LaunchError("cannot listen at %s: it is there and no socket" % path)
            os.unlink(path)
        mask = os.umask(0o177)
        try:
            listener.bind(path)
        finally:
            os.umask(mask)
        listener.listen(PEERS_LIMIT)
    except OSError as error:
        listener.close()
        raise LaunchError("cannot listen at %s: %s" % (path, cause(error))) from None
    listener.setblocking(False)
    return listener


def _accepted(listener: socket.socket) -> socket.socket | None:
    """Who is there; None when they have gone again."""
    try:
        connection, _ = listener.accept()
    except OSError:
        return None
    connection.setblocking(False)
    return connection


def _uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])
