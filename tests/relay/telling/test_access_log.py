"""The access log: one record a request, whatever way it ends."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from proxy.lifecycle.gate import Verdict
from proxy.relay.telling.accesslog import AccessLog
from tests.harness import echo_settings
from tests.relay.raw.loops import both_loops
from tests.relay.raw.peers import OK, get, message, pair, settle

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve

TRACE = "0af7651916cd43dd8448eb211c80319c"
UPGRADE = b"Connection: Upgrade", b"Upgrade: x"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
LONG = 60.0


class Records(logging.Handler):
    """What was written, as dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.all.append(vars(record))

    async def next(self) -> dict[str, Any]:
        await settle(lambda: self.all)
        return self.all.pop(0)


@pytest.fixture
def records() -> Any:
    found = Records()
    logger = logging.getLogger("proxy.access")
    logger.addHandler(found)
    yield found
    logger.removeHandler(found)


def everything(**options: Any) -> Any:
    return pair(access=AccessLog(errors_only=False), **options)


@both_loops
async def test_a_request_is_told_with_what_matters_and_never_its_query(records: Records) -> None:
    async with everything() as p:
        request = message(
            b"POST /a%20b?token=s3cret HTTP/1.1",
            *(b"Host: a", b"Content-Length: 5", b"X-Request-ID: r-1"),
            b"traceparent: 00-" + TRACE.encode() + b"-b7ad6b7169203331-01",
            body=b"hello",
        )
        client, upstream, _ = await p.exchange(request)
        await upstream.send(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n", b"ok")
        await client.response()
        record = await records.next()
        assert record["msg"] == "request"
        assert (record["method"], record["path"], record["status"]) == ("POST", "/a%20b", 201)
        assert (record["request_id"], record["trace_id"]) == ("r-1", TRACE)
        assert (record["bytes_in"], record["bytes_out"]) == (len(request), 45)
        assert 0 < record["first_byte"] <= record["seconds"]
        assert record["client"] == "127.0.0.1"
        assert not {"refused", "cut", "unchanged"} & record.keys()
        assert "s3cret" not in str(record)


@both_loops
async def test_requests_of_one_connection_are_told_apart(records: Records) -> None:
    async with everything() as p:
        client, upstream, _ = await p.exchange(get(b"/1") + get(b"/22"))
        await upstream.send(OK)
        await upstream.head()
        await upstream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
        await client.response()
        await client.response()
        one, two = await records.next(), await records.next()
        assert (one["path"], one["status"], one["bytes_in"]) == ("/1", 200, len(get(b"/1")))
        assert (two["path"], two["status"], two["bytes_in"]) == ("/22", 404, len(get(b"/22")))
        assert one["bytes_out"] == len(OK)
        assert one["request_id"] != two["request_id"]


@both_loops
async def test_refusals_say_why(records: Records) -> None:
    async with everything() as p:
        p.verdict = Verdict.REFUSE
        answer = await (await p.sent(get(b"/x", b"X-Request-ID: r-1"))).response()
        record = await records.next()
        assert (record["status"], record["refused"]) == (503, "not_ready")
        assert record["bytes_out"] == len(b"".join(answer))
        await (await p.sent(b"GET / HTTP/2.0\r\n\r\n")).rest()
        record = await records.next()
        assert (record["status"], record["refused"]) == (505, "bad_request")
        assert not {"method", "path"} & record.keys()
        p.verdict = Verdict.RELAY
        client, upstream, _ = await p.exchange(get(b"/y"))
        upstream.close()
        await client.rest()
        record = await records.next()
        assert (record["path"], record["status"]) == ("/y", 502)
        assert record["refused"] == "upstream"
        assert not records.all


@both_loops
async def test_client_that_leaves_before_the_answer_is_told(records: Records) -> None:
    async with everything() as p:
        client, _, _ = await p.exchange(get(b"/slow"))
        client.close()
        record = await records.next()
        assert (record["path"], record["cut"]) == ("/slow", "client")
        assert not {"status", "first_byte"} & record.keys()


@both_loops
async def test_client_that_leaves_while_it_is_held_is_told(records: Records) -> None:
    async with everything(hold=LONG) as p:
        p.verdict = Verdict.HOLD
        client = await p.sent(get(b"/held"))
        await settle(lambda: p.relay.held_requests)
        client.close()
        record = await records.next()
        assert (record["path"], record["cut"]) == ("/held", "client")


@both_loops
async def test_answer_that_the_upstream_cuts_short_is_told(records: Records) -> None:
    async with everything() as p:
        client, upstream, _ = await p.exchange(get(b"/"))
        await upstream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", b"abc")
        await client.exactly(41)
        upstream.close()
        await client.ending()
        record = await records.next()
        assert (record["status"], record["cut"], record["bytes_out"]) == (200, "upstream", 41)


@both_loops
async def test_request_that_is_under_way_at_the_end_is_told(records: Records) -> None:
    async with everything() as p:
        await p.exchange(get(b"/"))
        p.relay.abort()
        assert (await records.next())["cut"] == "shutdown"


@both_loops
async def test_body_that_stops_is_told(records: Records) -> None:
    async with everything(idle_timeout=0.2) as p:
        client = await p.sent(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
        record = await records.next()
        assert (record["status"], record["refused"]) == (408, "too_slow")


@pytest.mark.parametrize("ending", ["close", "reset"])
@both_loops
async def test_a_tunnel_is_told_once_at_its_end(records: Records, ending: str) -> None:
    async with everything() as p:
        request = get(b"/socket?key=s3cret", *UPGRADE)
        client, upstream, _ = await p.exchange(request)
        await upstream.send(SWITCH)
        assert await client.head() == SWITCH
        await client.send(b"ping!")
        assert await upstream.exactly(5) == b"ping!"
        await upstream.send(b"pong")
        assert await client.exactly(4) == b"pong"
        assert not records.all
        if ending == "close":
            client.close()
            upstream.close()  # one direction may outlive the other
        else:
            client.reset()
        record = await records.next()
        assert record["msg"] == "tunnel"
        assert (record["path"], record["status"]) == ("/socket", 101)
        assert record["bytes_in"] == len(request) + 5
        assert record["bytes_out"] == len(SWITCH) + 4
        assert record["first_byte"] < record["seconds"]
        assert record.get("cut") == (None if ending == "close" else "client")
        await settle(lambda: not p.relay.open_connections)
        assert not records.all


@both_loops
async def test_early_answer_is_told_once(records: Records) -> None:
    async with everything() as p:
        client = await p.sent(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        upstream = await p.accept()
        await upstream.head()
        await upstream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await client.response()
        await client.send(b"defghi")
        record = await records.next()
        assert record["status"] == 413
        assert "cut" not in record
        client.close()
        await settle(lambda: not p.relay.open_connections)
        assert not records.all


@both_loops
async def test_trusted_proxy_says_who_the_client_is(records: Records) -> None:
    import ipaddress  # noqa: PLC0415

    async with everything(trusted_proxies=[ipaddress.ip_network("127.0.0.0/8")]) as p:
        p.verdict = Verdict.REFUSE
        for said in (b"6.6.6.6, 2001:db8::1", b"unknown", b"\xff"):
            await (await p.sent(get(b"/", b"X-Forwarded-For: " + said))).response()
        shown = [(await records.next())["client"] for _ in range(3)]
        assert shown == ["2001:db8::1", "127.0.0.1", "127.0.0.1"]


@both_loops
async def test_client_on_a_unix_socket_has_no_address(records: Records, tmp_path: Path) -> None:
    async with everything(unix=tmp_path) as p:
        p.verdict = Verdict.REFUSE
        await (await p.sent(get(b"/"))).response()
        assert (await records.next())["client"] == "unix"


@pytest.mark.parametrize(
    "said",
    [b"", b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01", b"nonsense \xff", b"00-" + b"a" * 32],
)
@both_loops
async def test_what_is_no_trace_context_is_no_trace(records: Records, said: bytes) -> None:
    async with everything() as p:
        p.verdict = Verdict.REFUSE
        await (await p.sent(get(b"/", b"traceparent: " + said))).response()
        assert "trace_id" not in await records.next()


@both_loops
async def test_errors_only_leaves_out_what_went_well(records: Records) -> None:
    async with pair(access=AccessLog(errors_only=True)) as p:
        client, upstream, _ = await p.exchange(get(b"/good"))
        await upstream.send(OK)
        await client.response()
        await client.send(get(b"/bad"))
        await upstream.head()
        await upstream.send(b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
        await client.response()
        await client.send(get(b"/left"))
        await upstream.head()
        client.close()
        told = [await records.next(), await records.next()]
        assert [(r["path"], r.get("status")) for r in told] == [("/bad", 500), ("/left", None)]


@both_loops
async def test_nothing_is_told_when_it_is_off(records: Records) -> None:
    async with pair() as p:
        client, _ = await p.kept(b"/")
        client.close()
        await settle(lambda: not p.relay.open_connections)
        assert not records.all


async def test_probes_are_logged_when_their_answer_changes(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["log"] = {"access": "all"}
    proxy = await serve(settings)
    for _ in range(3):
        assert (await proxy.get("/ready"))[0] == 200
    for _ in range(2):
        assert (await proxy.get("/early?key=s3cret"))[0] == 503
    await proxy.init({"session_api_keys": ["sk-of-the-user"]})
    assert (await proxy.get("/api/sk-of-the-user/x"))[0] == 200
    # The state is ready, but the upstream's probe does not pass once it is gone.
    for _ in range(3):
        assert (await proxy.get("/health"))[0] == 200
    last = await proxy.logged(lambda line: line.get("path") == "/health")
    told = [line for line in proxy.log if line["logger"] == "proxy.access"]
    assert [(line["path"], line["status"]) for line in told] == [
        ("/ready", 200),
        ("/early", 503),
        ("/early", 503),
        ("/api/init", 200),
        ("/api/***/x", 200),
        ("/health", 200),
    ]
    assert told[1]["refused"] == "not_ready"
    assert last["unchanged"] == 0
    assert "s3cret" not in proxy.text
