"""What the upstream prints: every line passed on, memory bounded, nothing waits for anybody."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from tests.launcher.launching import Launcher, until

if TYPE_CHECKING:
    from pathlib import Path


def run(launcher: Launcher, code: str) -> dict[str, object]:
    """Run Python code as upstream to its end; returns the exit event."""
    pid = launcher.start(sys.executable, "-c", code)["pid"]
    return launcher.event("exit", pid=pid)


def test_lines_come_in_order_and_tagged_with_their_stream() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "seq 1000; seq 5 >&2")
        launcher.event("exit")
        assert launcher.output() == [str(n + 1) for n in range(1000)]
        assert launcher.output("stderr") == ["1", "2", "3", "4", "5"]


def test_last_line_without_newline_is_not_lost() -> None:
    with Launcher() as launcher:
        exit_ = run(launcher, "import os; os.write(1, b'out\\nno end'); os.write(2, b'last')")
        assert launcher.output() == ["out", "no end"]
        assert launcher.output("stderr") == ["last"]
        assert exit_["tail"] == "last"


def test_bytes_that_are_no_utf8_are_replaced_and_newlines_of_any_kind_understood() -> None:
    with Launcher() as launcher:
        run(launcher, "import os; os.write(1, b'a\\xff\\xe2\\x82\\xac\\r\\n\\n\\0b\\n')")
        assert launcher.output() == ["a\ufffd\u20ac", "", "\0b"]


def test_long_lines_are_passed_on_in_pieces_cut_between_words() -> None:
    words = "word " * 4000
    with Launcher() as launcher:
        run(launcher, f"print({words!r} + 'x' * 20000 + '\\n' + 'short')")
        pieces = launcher.output()
        assert max(map(len, pieces)) <= 8192
        assert pieces[-1] == "short"
        assert "".join(pieces[:-1]) == words + "x" * 20000
        assert all(piece.endswith("word ") for piece in pieces[:2])


@pytest.mark.parametrize(
    ("written", "tail"),
    [
        ("\\n".join(f"line {n}" for n in range(100)), [f"line {n}" for n in range(80, 100)]),
        ("first secret" + "y" * 50_000 + " last", ["first secret" + "y" * 50_000 + " last"]),
        # Longer than 64 KiB: a line that is cut off in the middle is not shown at all.
        ("secret" * 12_000 + "\\nshown", ["shown"]),
        ("a secret of words" * 5000 + " last", []),
        ("", []),
    ],
    ids=["lines", "whole line", "long line", "one line", "nothing"],
)
def test_tail_is_the_end_of_stderr(written: str, tail: list[str]) -> None:
    with Launcher() as launcher:
        exit_ = run(launcher, f"import os; os.write(2, '{written}'.encode()); os._exit(1)")
        assert str(exit_["tail"]).splitlines() == tail


def test_everything_a_dead_upstream_wrote_comes_before_its_exit() -> None:
    # More than one read, and just what fits into the pipe before anybody reads.
    code = "import os; os.write(2, b'e' * 60000 + b'\\n'); os.kill(os.getpid(), 9)"
    with Launcher() as launcher:
        run(launcher, code)
        assert sum(map(len, launcher.output("stderr"))) == 60000
        assert launcher.events[-1]["event"] == "exit"


def test_output_of_one_run_does_not_show_in_the_tail_of_the_next() -> None:
    with Launcher() as launcher:
        assert run(launcher, "import os; os.write(2, b'first')")["tail"] == "first"
        assert run(launcher, "pass")["tail"] == ""


def test_controller_that_does_not_read_holds_the_upstream_back(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    flood = f"""
import os
line = b"x" * 999 + b"\\n"
for n in range(20_000):
    os.write(1, line)
    if n % 100 == 0:
        with open({str(counter)!r}, "w") as file: file.write(str(n))
"""

    def progress() -> int:
        return int(counter.read_text() or 0) if counter.exists() else 0

    with Launcher() as launcher:
        launcher.send(id=1, op="start", argv=[sys.executable, "-c", flood], base_unset=[])
        seen = [-1]

        def stuck() -> bool:
            """No progress over 40 looks, 5 ms apart."""
            seen.append(progress())
            return seen[-1] > 0 and len(seen) > 40 and len(set(seen[-40:])) == 1

        until(stuck)
        assert progress() < 15_000
        assert launcher.resident() < 40 * 2**20
        launcher.event("exit", code=0)
        assert len(launcher.output()) == 20_000


def test_answers_go_out_and_a_stop_works_while_output_is_held_back() -> None:
    # The upstream ends in good order only if what it still writes is taken from it.
    flood = """
import os, signal
def end(*_):
    os.write(2, b"closing\\n" * 20000)
    os._exit(5)
signal.signal(signal.SIGTERM, end)
while True:
    os.write(1, b"x" * 999 + b"\\n")
"""
    with Launcher() as launcher:
        launcher.send(id=1, op="start", argv=[sys.executable, "-c", flood], base_unset=[])
        launcher.event("output")
        launcher.send(id=2, op="nonsense")
        launcher.send(id=3, op="stop", grace=20)
        assert not launcher.answer(2)["ok"]
        assert launcher.answer(3)["ok"]
        assert launcher.event("exit")["code"] == 5


def test_upstream_may_open_its_standard_streams_by_name() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "echo o > /dev/stdout; echo e > /dev/stderr")
        launcher.event("exit", code=0)
        assert launcher.output() == ["o"]
        assert launcher.output("stderr") == ["e"]


def test_upstream_that_closes_its_streams_goes_on_running() -> None:
    with Launcher() as launcher:
        launcher.start("sh", "-c", "echo last; exec >&- 2>&- sleep 600")
        launcher.line("last")
        launcher.call("nonsense")
        launcher.stop()
        assert launcher.event("exit")["code"] == 143
