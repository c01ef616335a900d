"""When the upstream of a recording is ready: as the controller's readiness probe has it."""

from __future__ import annotations

import http.client
import re
import socket

from ..errors import LaunchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROBE_TIMEOUT = 2.0  # seconds
_HEARD = 64 * 1024  # bytes of a body


class Ready:
    """`address` is "host:port" or "unix:/path", `body` and `log` are regular expressions.

    Without a `path` a connection is enough.
    """

    def __init__(
        self,
        address: str,
        path: str | None,
        statuses: Iterable[int],
        *,
        headers: Mapping[str, str] | None = None,
        body: str | None = None,
        log: str | None = None,
    ) -> None:
        self._address = address
        self._path = path
        self._statuses = frozenset(statuses)
        self._headers = dict(headers or {})
        self._body = re.compile(body) if body is not None else None
        self._log = re.compile(log) if log is not None else None

    @property
    def where(self) -> str:
        return self._address + (self._path or "")

    def hear(self, line: str) -> None:
        """A line of the upstream's output."""
        if self._log is not None and self._log.search(line):
            self._log = None  # said, once and for all

    def ensure_vacant(self) -> None:
        """Raises `LaunchError` when somebody listens, who would be taken for the upstream."""
        try:
            self._connected().close()
        except OSError:
            return
        raise LaunchError("cannot record: somebody listens at %s already" % self._address)

    def check(self) -> bool:
        if self._log is not None:
            return False
        connection = http.client.HTTPConnection("localhost", timeout=PROBE_TIMEOUT)
        try:
            connection.sock = self._connected()
            return self._path is None or self._passes(connection, self._path)
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        if not self._address.startswith("unix:"):
            host, _, port = self._address.rpartition(":")
            return socket.create_connection((host.strip("[]"), int(port)), PROBE_TIMEOUT)
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.settimeout(PROBE_TIMEOUT)
            sock.connect(self._address[5:])
        except OSError:
            sock.close()
            raise
        return sock

    def _passes(self, connection: http.client.HTTPConnection, path: str) -> bool:
        connection.request("GET", path, headers=self._headers)
        answer = connection.getresponse()
        if answer.status not in self._statuses:
            return False
        if self._body is None:
            return True
        return self._body.search(answer.read(_HEARD).decode("utf-8", "replace")) is not None
