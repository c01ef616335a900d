"""The launcher in a container of its own: waits on a Unix socket for its controller.

The launcher itself knows one controller, for ever, over a socket pair. This is the other end of
that pair: it lets one controller in at a time, passes lines both ways, and keeps what a controller
that comes back has to know. So the upstream outlives the proxy beside it.

Who may be the controller. Code that the upstream runs (an agent's, as the same user, in the same
container) can reach the socket too, so a uid alone proves nothing. The first controller to come
after the launcher's start brings a token: at that time nothing of an upstream can be running here.
From then on a controller proves that it has the token, without showing it, and the launcher proves
it as well. The token is in this process's memory only, which is not dumpable.

What that cannot keep out is code of this user that takes over the socket's path: to a controller
that comes back it can say that nobody has come yet, and is shown the token, or pass the two proofs
on. It gets at what its own user was given, and no further: before anything of the next user's comes
here, every process of the last one has been ended.

    launcher -> {"event": "hello", …, "challenge": HEX, "bound": false}
    proxy    -> {"id": 1, "op": "identify", "token": HEX, "challenge": HEX}       the first one
             or {"id": 1, "op": "identify", "proof": HEX, "challenge": HEX}       any other
    launcher -> {"id": 1, "ok": true, "proof": HEX, "pid": …|null, "start": {…}|null}

`proof` is HMAC-SHA256 under the token of the role ("controller", "launcher") and the other's
challenge. `start` is the start message of the upstream that runs as `pid`.
"""

from __future__ import annotations

import hmac
import os
import signal
import socket
import stat
import struct

from ..errors import LaunchError, cause
from ..kernel.loop import READ
from .wire import VERSION, Session

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..kernel.loop import Loop

IDENTIFY_LIMIT = 5.0  # seconds for a peer to prove itself
PEERS_LIMIT = 8  # at one time; more than one only while somebody tries
TOKEN_BYTES = 16  # at least


class Door:
    """Listens at `path`; `inner` is the descriptor that the launcher is served through."""

    def __init__(self, loop: Loop, path: str, inner: int) -> None:
        self._loop = loop
        self._path = path
        self._token: bytes | None = None
        self._peers: list[Peer] = []
        self._controller: Peer | None = None
        self._leaving = False
        self._numbers = 0
        self._asked: dict[int, tuple[Peer | None, Any, dict[str, Any]]] = {}
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

    # Peers

    def _accept(self, _events: int) -> None:
        connection, _ = self._listener.accept()
        if _uid(connection) not in (0, os.geteuid()) or len(self._peers) >= PEERS_LIMIT:
            connection.close()
            return
        peer = Peer(self._loop, self, connection)
        self._peers.append(peer)
        peer.greet(dict(self._hello, bound=self._token is not None))

    def identified(self, peer: Peer, message: dict[str, Any]) -> dict[str, Any]:
        """Let `peer` be the controller. Raises `LaunchError`."""
        if message.get("version", VERSION) != VERSION:
            raise LaunchError("the version spoken here is %d" % VERSION)
        token = self._token
        if token is None:
            token = _hex(message, "token")
            if len(token) < TOKEN_BYTES:
                raise LaunchError("token must have %d bytes at least" % TOKEN_BYTES)
        elif not hmac.compare_digest(
            prove(token, b"controller", peer.challenge), _hex(message, "proof")
        ):
            raise LaunchError("proof is wrong")
        if self._controller is not None:
            raise LaunchError("there is a controller")
        proof = prove(token, b"launcher", _hex(message, "challenge"))
        self._token, self._controller = token, peer
        return {"proof": proof.hex(), "pid": self._pid, "start": self._start}

    def hung_up(self, peer: Peer) -> None:
        self._peers = [other for other in self._peers if other is not peer]
        if self._controller is peer:
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

    def pass_on(self, peer: Peer, message: dict[str, Any]) -> None:
        """From the controller to the launcher, under a number of our own."""
        outer = message.get("id")
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
        peer = self._controller
        # Nobody waits for lost lines; the rest is little.
        if peer is not None and not (event == "output" and peer.congested):
            peer.send(message)

    def _answered(self, message: dict[str, Any]) -> None:
        number = message.get("id")
        peer, outer, asked = self._asked.pop(number, (None, None, {})) if number else (None,) * 3
        if asked and message.get("ok") and asked.get("op") == "start":
            self._pid = message["pid"]
            hidden = ("id", "op", "version")
            self._start = {key: value for key, value in asked.items() if key not in hidden}
        if peer is not None and peer is self._controller:
            peer.send(dict(message, id=outer))


class Peer:
    """Whoever has connected: a stranger until it has identified itself."""

    def __init__(self, loop: Loop, door: Door, connection: socket.socket) -> None:
        self._loop = loop
        self._door = door
        self._known = False
        self.challenge = os.urandom(16)
        self._session = Session(loop, connection.detach(), self._received)
        self._session.on_drained = self._drained
        self._timer = loop.later(IDENTIFY_LIMIT, self._too_slow)

    @property
    def congested(self) -> bool:
        return self._session.congested

    def greet(self, hello: dict[str, Any]) -> None:
        self.send(dict(hello, challenge=self.challenge.hex()))

    def send(self, message: dict[str, Any]) -> None:
        self._session.send(message)

    def _received(self, message: dict[str, Any]) -> None:
        if self._session.gone:
            return  # what came in one piece with a refused line
        if self._known:
            self._door.pass_on(self, message)
            return
        answer = {"id": message.get("id")}
        try:
            if message.get("op") != "identify":
                raise LaunchError("the first thing to say here is identify")  # noqa: TRY301
            answer.update(self._door.identified(self, message), ok=True)
            self._known = True
            self._loop.cancel(self._timer)
        except LaunchError as error:
            answer.update(ok=False, error="cannot identify: %s" % error)
        self.send(answer)
        if not self._known:
            self._session.close()

    def _too_slow(self) -> None:
        self._session.close()

    def _drained(self) -> None:
        """Called when the queue was emptied, and when the connection has ended."""
        if self._session.gone:
            self._loop.cancel(self._timer)
            self._door.hung_up(self)


def prove(token: bytes, role: bytes, challenge: bytes) -> bytes:
    return hmac.new(token, role + b"\0" + challenge, "sha256").digest()


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


def _uid(connection: socket.socket) -> int:
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    return int(struct.unpack("3i", credentials)[1])


def _hex(message: dict[str, Any], field: str) -> bytes:
    try:
        return bytes.fromhex(message.get(field, ""))
    except (TypeError, ValueError):
        raise LaunchError("%s must be hexadecimal" % field) from None
