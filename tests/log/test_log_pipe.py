"""The log in front of a reader that stands still: a real pipe, full."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import select
import threading
from typing import TYPE_CHECKING, Any

import pytest

from proxy.lifecycle.redact import Redactor
from proxy.log.log import Log
from proxy.log.logpipe import PipeHandler
from tests.harness import KEY
from tests.log.flooding import chatter, stderr_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness import Serve

WORDS = "x" * 1000


class Pipe:
    """A logger whose records go into a pipe; `read` reads until a message comes."""

    def __init__(self, queued: int) -> None:
        self.reading, self.writing = os.pipe()
        self.handler = PipeHandler(self.writing, queued=queued)
        self.logger = logging.getLogger("pipe")
        self.logger.propagate = False
        self.logger.setLevel("INFO")
        self.logger.handlers[:] = [self.handler]
        self._reader = os.fdopen(self.reading, encoding="utf-8")

    def read(self, last: str) -> list[str]:
        lines: list[str] = []
        while not lines or lines[-1] != last:
            lines.append(self._reader.readline().removesuffix("\n"))
        return lines

    def fields(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._reader.readline())
        return found

    def close_reader(self) -> None:
        self._reader.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    opened = Pipe(queued=100_000)
    yield opened
    opened.close_reader()  # a thread that still writes is told that nobody reads
    opened.handler.flush()
    os.close(opened.writing)


def test_what_fits_is_there_at_once(pipe: Pipe) -> None:
    for number in range(10):
        pipe.logger.info("%d", number)
    assert select.select([pipe.reading], [], [], 0)[0]
    assert pipe.read("9") == [str(number) for number in range(10)]


def test_no_thread_is_made_once_there_is_a_log(pipe: Pipe) -> None:
    """At the limit of processes none could be had."""
    before = set(threading.enumerate())  # some of which may end meanwhile
    for number in range(1000):  # more than pipe and queue take
        pipe.logger.info("%d %s", number, WORDS)
    assert not set(threading.enumerate()) - before


def test_what_a_full_pipe_does_not_take_follows_in_order(pipe: Pipe) -> None:
    for number in range(100):  # more than a pipe holds, less than the queue does besides
        pipe.logger.info("%d %s", number, WORDS)
    pipe.logger.info("end")
    lines = pipe.read("end")
    assert [line.split()[0] for line in lines[:-1]] == [str(number) for number in range(100)]
    pipe.handler.flush()
    pipe.logger.info("later")
    assert pipe.read("later") == ["later"]


def test_a_line_longer_than_a_pipe_is_whole(pipe: Pipe) -> None:
    pipe.logger.info("y" * 90_000)
    pipe.logger.info("end")
    assert pipe.read("end")[0] == "y" * 90_000


def test_what_the_queue_does_not_take_is_counted_in_its_place(pipe: Pipe) -> None:
    sent = 1000
    for number in range(sent):
        pipe.logger.info("%d %s", number, WORDS)
    report = "log records were dropped: whoever reads the log is too slow"
    kept = pipe.read(report)[:-1]
    numbers = [int(line.split()[0]) for line in kept]
    assert numbers == list(range(len(kept)))
    assert 100 < len(kept) < 300  # a pipe of 64 KiB and a queue of 100 kB
    assert repr(pipe.handler).endswith("dropped=0>")
    pipe.logger.info("later")
    assert pipe.read("later") == ["later"]


def test_the_count_is_that_of_the_dropped(pipe: Pipe) -> None:
    pipe.handler.setFormatter(Fields())
    for number in range(1000):
        pipe.logger.info("%d %s", number, WORDS)
    kept = 0
    while not (dropped := pipe.fields()["dropped"]):
        kept += 1
    assert kept + dropped == 1000


class Fields(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return json.dumps({"dropped": getattr(record, "dropped", 0), "text": record.getMessage()})


def test_nobody_waits_for_a_reader_that_has_gone(pipe: Pipe) -> None:
    for number in range(100):
        pipe.logger.info("%d %s", number, WORDS)
    pipe.close_reader()
    pipe.handler.flush()
    pipe.logger.info("nobody hears")
    assert repr(pipe.handler).endswith("queued=0 dropped=0>")


def test_a_descriptor_that_others_made_nonblocking_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.writing, False)
    for number in range(100):
        pipe.logger.info("%d %s", number, WORDS)
    pipe.logger.info("end")
    assert len(pipe.read("end")) == 101


def test_what_waits_has_been_masked() -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    reading, writing = os.pipe()
    try:
        with os.fdopen(reading) as reader, os.fdopen(writing, "w") as stream:
            log = Log("info", "text", stream)
            log.mask = Redactor(["s3cret"])
            for _ in range(100):
                root.info("s3cret %s", WORDS)
            log.mask = str  # the next user's, say
            root.info("end")
            lines = [reader.readline() for _ in range(101)]
            root.handlers[0].flush()
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert lines[-1].endswith("end\n")
    assert all("*** x" in line for line in lines[:-1])


# A running proxy


async def test_a_proxy_whose_log_nobody_reads_goes_on(serve: Serve) -> None:
    proxy = await serve()
    await proxy.init()
    stderr_of(proxy).pause_reading()
    await chatter(proxy, 30)
    assert (await proxy.get("/health"))[0] == 200
    stderr_of(proxy).resume_reading()
    await proxy.logged(lambda line: "29-z" in line["message"])
    said = [re.search(r"(\d+)-z{7000}", line["message"]) for line in proxy.log]
    assert [int(found[1]) for found in said if found] == list(range(30))
    assert KEY not in proxy.text


async def test_a_proxy_whose_log_nobody_reads_ends(serve: Serve) -> None:
    proxy = await serve()
    await proxy.init()
    stderr_of(proxy).pause_reading()
    await chatter(proxy, 30)
    pid = os.pidfd_open(proxy.process.pid)
    proxy.process.terminate()
    # Not `Process.wait`, which waits for the end of the pipe as well.
    loop = asyncio.get_running_loop()
    ended: Any = await loop.run_in_executor(None, select.select, [pid], [], [], 20)
    os.close(pid)
    stderr_of(proxy).resume_reading()
    assert ended[0]
    assert await proxy.ended() == 0


def test_a_log_call_never_fails(pipe: Pipe) -> None:
    class Broken(logging.Formatter):
        def format(self, _record: logging.LogRecord) -> str:
            raise MemoryError

    pipe.handler.setFormatter(Broken())
    pipe.logger.info("not even its replacement can be told")
    pipe.handler.setFormatter(logging.Formatter())
    pipe.logger.info("end")
    assert pipe.read("end") == ["end"]


def test_a_record_that_cannot_be_formatted_does_not_show_itself(
    pipe: Pipe, capfd: pytest.CaptureFixture[str]
) -> None:
    """Logging's own complaint quotes the message, before anything is masked in it."""
    record = {"msg": "the key is s-1234567 and %d", "args": ("no number",), "levelname": "INFO"}
    pipe.handler.handle(logging.makeLogRecord(record))
    assert pipe.read("cannot format a log record") == ["cannot format a log record"]
    shown = capfd.readouterr()
    assert "s-1234567" not in shown.out + shown.err
