"""What a program cannot be started with is refused alike, however it would have been started."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from typing import TYPE_CHECKING

import pytest

from proxy.launcher.upstream.delivery import STRING_LIMIT
from tests.launcher.launching import Launcher
from tests.launcher.warming import Warm, base, view, write

if TYPE_CHECKING:
    from pathlib import Path

NAME = "LARGE"
FITS = STRING_LIMIT - len(f"{NAME}=") - 1


def test_the_limit_is_the_kernels() -> None:
    subprocess.run(["/bin/true"], env={NAME: "x" * FITS}, check=True)
    with pytest.raises(OSError, match=os.strerror(errno.E2BIG)):
        subprocess.run(["/bin/true"], env={NAME: "x" * (FITS + 1)}, check=False)


@pytest.mark.parametrize("size", [FITS, FITS + 1, 200_000])
def test_a_variable_that_is_too_long_is_named_cold_and_warm(tmp_path: Path, size: int) -> None:
    write(tmp_path, {"prog.py": f"import json, os; print(json.dumps(len(os.environ['{NAME}'])))"})
    prepared = base(tmp_path, "-m", "prog")
    fields = {"env": {NAME: "x" * size}}
    with Launcher() as cold, Warm(prepared, ["json"]) as warm:
        for launcher, run in ((cold, tmp_path / "cold"), (warm, tmp_path / "warm")):
            answer = launcher.try_start(**prepared, **fields, run_dir=str(run))
            if size == FITS:
                assert view(answer, launcher) == size
            else:
                program = prepared["argv"][0]
                assert answer["error"] == f"cannot start {program}: the variable LARGE is too long"
                assert not run.exists()


def test_too_much_in_all_is_refused_cold_and_warm(tmp_path: Path) -> None:
    stack = resource.getrlimit(resource.RLIMIT_STACK)[0]
    most = 6 * 1024 * 1024 if stack == resource.RLIM_INFINITY else min(stack // 4, 6 * 1024 * 1024)
    write(tmp_path, {"prog.py": "print(1)"})
    prepared = base(tmp_path, "-m", "prog")
    env = {f"LARGE_{number}": "x" * 100_000 for number in range(most // 100_000 + 1)}
    with Launcher() as cold, Warm(prepared, ["json"]) as warm:
        for launcher in (cold, warm):
            answer = launcher.try_start(**prepared, env=env)
            assert "its arguments and environment take" in answer["error"]
