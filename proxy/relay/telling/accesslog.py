"""The access log: one record for each request at its end, for each tunnel at its end.

Never a query, as keys and tokens travel in it. What was delivered is masked by the log's handler,
as in every record.
"""

from __future__ import annotations

import ipaddress
import logging
import re
from typing import TYPE_CHECKING, Final

from proxy.relay.exchange.conversation import CONTROL, SWITCHING

if TYPE_CHECKING:
    from proxy.relay.exchange.conversation import Conversation
    from proxy.relay.http.forwarding import Forwarding
    from proxy.relay.http.head import RequestHead

logger = logging.getLogger("proxy.access")

# https://www.w3.org/TR/trace-context/#traceparent-header
_TRACEPARENT: Final = re.compile(
    rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def access_log(what: str, prefix: str) -> AccessLog | None:
    """For `log.access`: off, all or errors. The init is at `/api/init` under `prefix`."""
    return None if what == "off" else AccessLog(errors_only=what == "errors", prefix=prefix)


class AccessLog:
    """Writes all requests, or with `errors_only` those that ended badly.

    The kubelet's probes are told when their answer changes, with how many were the same.
    """

    def __init__(self, *, errors_only: bool, prefix: str = "") -> None:
        self._errors_only = errors_only
        self._init = (
            f"{prefix}/api/init".encode()
        )  # all else that the proxy answers itself is asked by probes
        self._probes: dict[bytes, tuple[int, int]] = {}  # path -> last status, how often since
        logger.setLevel(logging.INFO)  # it was asked for, whatever the level of everything else

    def write(
        self, talk: Conversation, sizes: tuple[int, int], *, first: float, end: float, cut: str
    ) -> None:
        """`sizes`: bytes in and out; `first`, `end`: seconds from the head on; `cut`: by whom."""
        head, status = talk.head, talk.status
        fields: dict[str, object] = {"request_id": talk.request_id.decode()}
        if head is not None:
            path = head.target.partition(b"?")[0]
            fields |= {"method": head.method.decode(), "path": path.decode()}
            if path != self._init and talk.source == CONTROL and not cut:
                same = self._same(path, status)
                if same is None:
                    return
                fields["unchanged"] = same
        if self._errors_only and status < 400 and not cut:
            return
        if status:
            fields["status"] = status
        fields |= {"bytes_in": sizes[0], "bytes_out": sizes[1]}
        if status:
            fields["first_byte"] = round(first, 6)
        fields |= {"seconds": round(end, 6), "client": _client(head, talk.peer)}
        if talk.refused:
            fields["refused"] = talk.refused
        if cut:
            fields["cut"] = cut
        trace = _trace(head) if head is not None else None
        if trace is not None:
            fields["trace_id"] = trace
        logger.info("tunnel" if status == SWITCHING else "request", extra=fields)

    def _same(self, path: bytes, status: int) -> int | None:
        """How many probes of `path` had the last status; None if this one has it as well."""
        last, count = self._probes.get(path, (0, 0))
        if status == last:
            self._probes[path] = last, count + 1
            return None
        self._probes[path] = status, 0
        return count


def _client(head: RequestHead | None, forwarding: Forwarding) -> str:
    """Who asked: the peer, or whom a trusted peer says it asks for."""
    told = head.forwarded.get(b"x-forwarded-for") if head is not None else None
    if forwarding.trusted and told:
        try:
            return str(ipaddress.ip_address(told[-1].rpartition(b",")[2].decode().strip()))
        except ValueError:
            pass  # a name, or noise: not what an address is looked up by
    return forwarding.address.decode() or "unix"


def _trace(head: RequestHead) -> str | None:
    match = _TRACEPARENT.fullmatch(head.field(b"traceparent") or b"")
    return match[1].decode() if match is not None else None
