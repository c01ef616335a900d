"""What modules draw, map or lock while they are preloaded is never in two servers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.interpreters import seen
from tests.launcher.warming import Warm, base, view, write

if TYPE_CHECKING:
    from pathlib import Path

VERSIONS = seen()
PROGRAM = "import json, kept; print(json.dumps(kept.see()))"

# What cannot be made anew: the fork server serves one start.
KEPT = {
    "token": "import secrets; KEY = secrets.token_hex()\ndef see(): return KEY",
    "bytes": "import os; KEY = os.urandom(8).hex()\ndef see(): return KEY",
    "early": "from os import urandom; KEY = urandom(8).hex()\ndef see(): return KEY",
    "id": "import uuid; KEY = uuid.uuid4().hex\ndef see(): return KEY",
    "number": "import random; KEY = random.random()\ndef see(): return KEY",
    "choice": "import random; KEY = random.sample(range(10**9), 3)\ndef see(): return KEY",
    "used": "import random; KEY = random.Random().getrandbits(99); R = random.Random()\n"
    "ID = R.random()\ndef see(): return [ID, R.random()]",
    "memory": "import mmap; M = mmap.mmap(-1, 8)\n"
    "def see():\n    seen, M[0] = M[0], 1; return [seen, id(M)]",
    "lock": "import multiprocessing; L = multiprocessing.get_context('fork').Lock()\n"
    "def see(): return [L.acquire(timeout=0.1), id(L)]",
}


def two(tmp_path: Path, source: str, python: str = "") -> list[tuple[dict[str, Any], Any]]:
    """Answer and view of the same start, twice."""
    write(tmp_path, {"kept.py": source, "prog.py": PROGRAM})
    prepared = base(tmp_path, "-m", "prog", **({"python": python} if python else {}))
    with Warm(prepared, ["kept"]) as launcher:
        found = []
        for _ in range(2):
            answer = launcher.begin()
            found.append((answer, view(answer, launcher)))
        return found


@pytest.mark.parametrize("case", KEPT)
def test_what_a_module_has_drawn_or_shares_is_in_one_server_only(tmp_path: Path, case: str) -> None:
    (first, one), (second, other) = two(tmp_path, KEPT[case])
    assert first["kind"] == "warm", first
    assert second["kind"] == "cold"
    assert "serves one start: " in second["why"]
    assert ("kept" if case not in {"memory", "lock"} else "mapped") in second["why"]
    assert one != other
    if case in {"memory", "lock"}:
        assert one[0] == other[0] == (case == "lock")


def test_the_fork_server_ends_after_its_only_start(tmp_path: Path) -> None:
    write(tmp_path, {"kept.py": KEPT["token"], "prog.py": PROGRAM})
    with Warm(base(tmp_path, "-m", "prog"), ["kept"]) as launcher:
        [note] = launcher.event("warm")["notes"]
        assert note == (
            "a fork server of these modules serves one start: module kept has drawn a random number"
        )
        before = launcher.forkserver
        answers = [view(launcher.begin(), launcher)]
        launcher.stop(0)
        launcher.another()
        assert launcher.forkserver != before
        answer = launcher.begin(env={"KEY": "another"})
        assert answer["kind"] == "warm", answer
        answers.append(view(answer, launcher))
        assert len(set(answers)) == 2


ANEW = {
    "generator": "import random; R = random.Random()\ndef see(): return R.random()",
    "subclass": "import random\nclass R(random.Random): pass\n"
    "r = R()\ndef see(): return r.random()",
    "reseeded": "import random; R = random.Random(1); R.seed()\ndef see(): return R.random()",
    "shared": "import random\ndef see(): return random.random()",
    "system": "import random; R = random.SystemRandom()\ndef see(): return R.random()",
    "names": "import tempfile; tempfile.gettempdir()\n"
    "def see(): return next(tempfile._get_candidate_names())",
    "authkey": "import multiprocessing\n"
    "def see(): return bytes(multiprocessing.current_process().authkey).hex()",
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("case", ANEW)
def test_what_can_be_made_anew_is_another_in_every_server(
    tmp_path: Path, case: str, version: str
) -> None:
    (first, one), (second, other) = two(tmp_path, ANEW[case], VERSIONS[version])
    assert [first["kind"], second["kind"]] == ["warm", "warm"], (first, second)
    assert one != other


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_module_has_chosen_itself_stays(tmp_path: Path, version: str) -> None:
    source = """
        import multiprocessing, random
        SEEDED, AGAIN = random.Random(1), random.Random()
        AGAIN.seed(2)
        multiprocessing.current_process().authkey = b"ours"
        def see():
            key = bytes(multiprocessing.current_process().authkey).decode()
            return [SEEDED.random(), AGAIN.random(), key]
    """
    (_, one), (second, other) = two(tmp_path, source, VERSIONS[version])
    assert second["kind"] == "warm", second
    assert one == other
    assert one[2] == "ours"


def test_functions_that_were_watched_are_themselves_again(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "kept.py": "from os import urandom; from random import random, choice, Random",
            "prog.py": """
                import _thread, json, os, random, threading, kept
                print(json.dumps([
                    type(os.urandom).__name__, type(random._urandom).__name__,
                    type(random.random).__name__, vars(random._inst).keys() == {"gauss_next"},
                    type(kept.Random.seed).__name__, len(kept.urandom(3)), 0 <= kept.random() < 1,
                    kept.choice([1]), kept.Random.seed.__module__,
                    type(threading._start_new_thread).__name__
                    if hasattr(threading, "_start_new_thread") else "builtin_function_or_method",
                    type(_thread.start_new_thread).__name__,
                ]))
            """,
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["kept"]) as launcher:
        answer = launcher.begin()
        builtin = "builtin_function_or_method"
        assert view(answer, launcher) == [
            *(builtin, builtin, builtin, True, "function", 3, True, 1, "random", builtin, builtin)
        ]
        assert answer["why"] is None
