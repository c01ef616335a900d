"""A fork server is of one user: nothing of that user's is in anything of the next one's."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.launcher.launching import encoded, until
from tests.launcher.warming import Warm, base, view, write

pytestmark = pytest.mark.slow

PROGRAM = """
    import json, os, sys, lib
    print("begun", flush=True)
    if os.environ.get("USER_NAME") == "fails":
        sys.exit("no database")
    lib.wait()
"""
LIBRARY = "import time\ndef wait():\n    time.sleep(600)\n"


def holds(pid: int, canary: bytes) -> bool:
    """Whether a process has it in its memory, environment, or a file that it has open."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", 0) as memory:
        for line in maps:
            span, rights, *_ = line.split()
            if "r" not in rights or "[v" in line:
                continue
            begin, end = (int(side, 16) for side in span.split("-"))
            memory.seek(begin)
            if canary in (memory.read(end - begin) or b""):
                return True
    own = [Path(f"/proc/{pid}/environ"), *Path(f"/proc/{pid}/fd").iterdir()]
    return any(path.is_file() and canary in path.read_bytes() for path in own)


def delivery(tmp_path: Path, user: str, canary: str) -> dict[str, Any]:
    file = tmp_path / "run" / f"{canary[:8]}.json"
    return {
        "env": {"USER_NAME": user, "KEY": canary, "CONF": str(file)},
        "files": [encoded(file, canary.encode())],
        "run_dir": str(tmp_path / "run"),
    }


@pytest.mark.parametrize("end", ["fails", "stopped", "crashed", "cold"])
def test_nothing_of_a_user_is_found_in_the_processes_and_files_of_the_next(
    tmp_path: Path, end: str
) -> None:
    write(tmp_path, {"prog.py": PROGRAM, "lib.py": LIBRARY})
    canary = f"CANARY-{uuid.uuid4().hex}"
    with Warm(base(tmp_path, "-m", "prog"), ["json", "lib"]) as launcher:
        fields = delivery(tmp_path, end, canary)
        if end == "cold":
            fields["env"]["PYTHONHASHSEED"] = "1"
        first = launcher.begin(**fields)
        assert first["kind"] == ("cold" if end == "cold" else "warm"), first
        launcher.line("begun")
        if end == "crashed":
            os.kill(first["pid"], 11)
        if end in {"fails", "crashed"}:
            launcher.event("exit", pid=first["pid"])
        launcher.stop(0)
        before = launcher.forkserver
        launcher.another()
        assert launcher.forkserver != before
        launcher.events.clear()
        second = launcher.begin(**delivery(tmp_path, "next", f"{uuid.uuid4().hex}"))
        assert second["kind"] == "warm", second
        launcher.line("begun")
        processes = [second["pid"], launcher.forkserver, launcher.waiting]
        assert not [pid for pid in processes if holds(pid, canary.encode())]
        assert not [
            path
            for path in tmp_path.rglob("*")
            if path.is_file() and canary.encode() in path.read_bytes()
        ]
        launcher.stop(0)


def test_the_canary_is_found_where_it_is(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": PROGRAM, "lib.py": LIBRARY})
    canary = f"CANARY-{uuid.uuid4().hex}"
    with Warm(base(tmp_path, "-m", "prog"), ["json", "lib"]) as launcher:
        first = launcher.begin(**delivery(tmp_path, "runs", canary))
        launcher.line("begun")
        assert holds(first["pid"], canary.encode())
        # Not even the fork server of the same user has seen it.
        assert not holds(launcher.forkserver, canary.encode())
        assert not holds(launcher.waiting, canary.encode())
        launcher.stop(0)


def test_the_same_start_again_is_served_by_the_same_fork_server(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')", "lib.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), ["lib"]) as launcher:
        forkserver = launcher.forkserver
        for _ in range(3):
            answer = launcher.begin(env={"KEY": "k"})
            assert answer["kind"] == "warm", answer
            launcher.event("exit", pid=answer["pid"], code=0)
            launcher.stop(0)
        assert launcher.forkserver == forkserver


def test_another_start_is_not_served_by_it_even_if_nobody_has_said_that_the_user_is_gone(
    tmp_path: Path,
) -> None:
    write(tmp_path, {"prog.py": "print('runs')", "lib.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), ["lib"]) as launcher:
        assert launcher.begin(env={"KEY": "a"})["kind"] == "warm"
        launcher.stop(0)
        before = launcher.forkserver
        answer = launcher.begin(env={"KEY": "b"})
        assert answer["kind"] == "cold"
        assert answer["why"] == "the fork server is still importing"
        assert launcher.forkserver != before
        launcher.stop(0)


def test_a_fork_server_that_was_made_beside_a_users_server_serves_nobody_else(
    tmp_path: Path,
) -> None:
    """That user's code could reach into what it imported."""
    write(tmp_path, {"prog.py": "import time; print('up', flush=True); time.sleep(600)"})
    with Warm(base(tmp_path, "-m", "prog"), ["json"]) as launcher:
        launcher.begin(env={"KEY": "a"})
        launcher.line("up")
        os.kill(launcher.forkserver, 9)
        launcher.event("cold")
        seen = len(launcher.events)
        while not any(event["event"] == "warm" for event in launcher.events[seen:]):
            launcher.receive()
        beside = launcher.forkserver
        launcher.stop(0)
        launcher.another()
        assert launcher.forkserver != beside
        assert launcher.begin(env={"KEY": "b"})["kind"] == "warm"
        launcher.stop(0)


@pytest.mark.parametrize(
    "act",
    {
        "shadows a module": "open('lib/extra.py', 'w').write('X = 2')",
        "changes a module": "open('lib/__init__.py', 'a').write('X = 2')",
        "replaces a module": "open('n', 'w').write('X = 2'); os.replace('n', 'lib/__init__.py')",
        "changes what a module reads": "open('lib/data.txt', 'w').write('2')",
        "hides the time of the change": (
            "s = os.stat('lib/__init__.py'); open('lib/__init__.py', 'a').write(' ');"
            " os.utime('lib/__init__.py', ns=(s.st_atime_ns, s.st_mtime_ns))"
        ),
    }.items(),
    ids=lambda item: item[0],
)
def test_what_a_user_has_changed_is_not_preloaded_for_the_next(
    tmp_path: Path, act: tuple[str, str]
) -> None:
    write(
        tmp_path,
        {
            "lib/__init__.py": """
                open('lib/data.txt').close()
                try:
                    import lib.extra
                except ImportError:
                    pass
            """,
            "lib/data.txt": "1",
            "prog.py": f"import os\nif os.environ['KEY'] == 'a':\n    {act[1]}\nprint('done')",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["lib"]) as launcher:
        answer = launcher.begin(env={"KEY": "a"})
        assert answer["kind"] == "warm", answer
        launcher.event("exit", pid=answer["pid"], code=0)
        launcher.stop(0)
        launcher.another()
        answer = launcher.begin(env={"KEY": "b"})
        assert answer["kind"] == "cold"
        assert "was changed in the time of another user" in answer["why"]
        assert str(tmp_path) in answer["why"]


def test_nobody_of_the_same_user_can_reach_into_what_is_being_imported(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib.py": """
                import ctypes
                ATTACHABLE = ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)  # PR_GET_DUMPABLE
            """,
            "prog.py": "import ctypes, json, lib\n"
            "print(json.dumps([lib.ATTACHABLE, ctypes.CDLL(None).prctl(3, 0, 0, 0, 0)]))",
        },
    )
    with Warm(base(tmp_path, "-m", "prog"), ["lib"]) as launcher:
        assert view(launcher.begin(), launcher) == [0, 1]


def test_a_renewal_is_told_as_warming_and_then_warm(tmp_path: Path) -> None:
    write(tmp_path, {"prog.py": "print('runs')", "lib.py": ""})
    with Warm(base(tmp_path, "-m", "prog"), ["lib"]) as launcher:
        assert launcher.call("renew")["warming"] is False  # nobody has used it
        launcher.begin()
        launcher.stop(0)
        launcher.events.clear()
        assert launcher.call("renew")["warming"] is True
        assert launcher.events[0] == {"event": "warming", "done": 0, "total": 1}
        launcher.event("warm")
        until(lambda: launcher.begin()["kind"] == "warm")
