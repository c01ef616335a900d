"""What an upstream prints with its secrets in it, however it prints it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from proxy.lifecycle.redact import Redactor
from proxy.log.upstreamlog import UpstreamLog

if TYPE_CHECKING:
    from tests.harness import Serve

# Each lies across the cut of a long line: without separators, with them, and in two scripts.
SECRETS = {
    "PLAIN_KEY": "plain0123456789abcdefghijklmnopqrstuvwxyz",
    "SPACED_KEY": "four words, and; a=tail&more",
    "SCRIPTS_KEY": "ключ-秘密-schlüssel",
}

PRINT = """
import os, sys
value = os.environ["KEY"]
for before in range(8192 - len(value.encode()), 8194):
    for filler in ("x", "x "):
        pad = (filler * 9000)[:before]
        sys.stderr.buffer.write((pad + value + "y" * 1000 + "\\n").encode())
print("done", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("value", SECRETS.values(), ids=SECRETS)
async def test_a_value_across_the_cut_of_a_long_line_is_masked(value: str, serve: Serve) -> None:
    """All of it together is less than what waits for a slow reader of the log."""
    proxy = await serve(command=[sys.executable, "-S", "-c", PRINT])
    status, said = await proxy.init({"env": {"KEY": value}})
    assert status == 500
    await proxy.logged(lambda line: line["message"] == "done")
    lines = [line["message"] for line in proxy.log if line["logger"] == "upstream"]
    text = "".join(lines)
    assert text.count("***") == 2 * (len(value.encode()) + 2)
    assert not set(text) - set("*xy done")
    assert value[:5] not in json.dumps(said, ensure_ascii=False)


@pytest.mark.parametrize("size", range(1, 12))
def test_pieces_of_any_size_cut_no_value(size: int, caplog: pytest.LogCaptureFixture) -> None:
    log = UpstreamLog()
    log.arm(Redactor(["abcab", "bcabcab", "z"]))
    text = "xabcabcabcabzabcabxxbcabcabbcab"
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    with caplog.at_level("INFO", logger="upstream"):
        for piece in pieces:
            log("stdout", piece, more=True)
        log("stderr", "another", more=False)
        log("stdout", "", more=False)
    parts = [r.getMessage() for r in caplog.records if r.__dict__["stream"] == "stdout"]
    assert "".join(parts) == text
    for value in ("abcab", "bcabcab"):
        assert sum(part.count(value) for part in parts) >= text.count(value)


@pytest.mark.parametrize("others", [0, 300], ids=["few", "many"])
@pytest.mark.parametrize("before", range(8192 - 60, 8192, 3))
def test_an_encoded_value_across_the_cut_is_masked(
    before: int, others: int, caplog: pytest.LogCaptureFixture
) -> None:
    mask = Redactor(["a key/with:signs & blanks", *(f"other-{n}" for n in range(others))])
    log = UpstreamLog()
    log.arm(mask)
    line = "x" * before + quote("a key/with:signs & blanks", safe="") + "y" * 100
    with caplog.at_level("INFO", logger="upstream"):
        log("stdout", line[:8192], more=True)
        log("stdout", line[8192:], more=False)
    shown = "".join(mask(record.getMessage()) for record in caplog.records)
    assert shown == "x" * before + "***" + "y" * 100


def test_a_line_of_nothing_but_values_is_not_kept_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = UpstreamLog()
    log.arm(Redactor(["aaaa"]))
    with caplog.at_level("INFO", logger="upstream"):
        for _ in range(50):
            log("stdout", "a" * 8192, more=True)
    assert sum(len(record.getMessage()) for record in caplog.records) > 49 * 8192
