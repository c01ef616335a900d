"""What libraries read through getenv(3), as an upstream's modules have them read it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from tests.interpreters import interpreters
from tests.launcher.warming import Warm, base, write

if TYPE_CHECKING:
    from pathlib import Path

# Read by expat when a parser is made; the text is in every library that has expat in it.
NAME = "EXPAT_ACCOUNTING_DEBUG"
PARSES = "import pyexpat\npyexpat.ParserCreate().Parse('<a/>', True)"

pytestmark = pytest.mark.skipif(
    os.uname().machine != "x86_64", reason="calls are heard on that machine only"
)


@pytest.mark.parametrize("python", interpreters().values(), ids=list(interpreters()))
def test_what_a_library_has_read_makes_a_start_cold_and_the_module_is_named(
    tmp_path: Path, python: str
) -> None:
    write(tmp_path, {"prog.py": "print('up')", "parses.py": PARSES})
    with Warm(base(tmp_path, "-m", "prog", python=python), ["parses"]) as launcher:
        answer = launcher.begin(env={NAME: "1"})
        assert answer["kind"] == "cold"
        assert answer["why"] == f"{NAME} was read while preloading parses"


def test_what_it_might_read_and_has_not_does_not(tmp_path: Path) -> None:
    asks = "import ctypes; ask = ctypes.CDLL(None).getenv; ask.restype = ctypes.c_char_p"
    write(tmp_path, {"prog.py": f"{PARSES}\n{asks}\nprint(ask(b'{NAME}'))"})
    with Warm(base(tmp_path, "-m", "prog"), ["pyexpat"]) as launcher:
        assert launcher.why is None
        answer = launcher.begin(env={NAME: "1"})
        # An interpreter that is linked with it (Debian's) has it before calls are heard.
        linked = "pyexpat" in sys.builtin_module_names
        assert answer["kind"] == ("cold" if linked else "warm"), answer
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output() == ["b'1'"]


def test_modules_get_the_answers_that_they_would_get(tmp_path: Path) -> None:
    asks = """
        import ctypes
        libc = ctypes.PyDLL(None, use_errno=True)
        ask = libc["getenv"]
        ask.restype = ctypes.c_char_p
        ctypes.set_errno(7)
        FOUND = [ask(b"IS_SET"), ask(b"IS_NOT"), ask(b"IS_EMPTY"), ask(b"IS")], ctypes.get_errno()
    """
    write(tmp_path, {"prog.py": "import asks; print(asks.FOUND)", "asks.py": asks})
    prepared = base(tmp_path, "-m", "prog", IS_SET="a=b", IS_EMPTY="")
    with Warm(prepared, ["asks"]) as launcher:
        answer = launcher.begin()
        assert answer["kind"] == "warm", answer
        launcher.event("exit", pid=answer["pid"], code=0)
        assert launcher.output() == ["([b'a=b', None, b'', None], 7)"]
        assert launcher.begin(env={"IS_NOT": "1"})["kind"] == "cold"
