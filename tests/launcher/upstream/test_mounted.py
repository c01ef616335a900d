"""Files whose place is a mount point: one file of a volume, or of a bind mount."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a mount namespace needs root")

# Runs where `place`, in `directory`, is `source`, bound to it.
BEGIN = """
import os, sys
from pathlib import Path
from tests.launcher.upstream.placing import Files, refused, snapshot, spec, write
directory, source = map(Path, sys.argv[1:])
place = directory / "place"
before, status = snapshot(directory), source.stat()
"""
WRITTEN = """
files = write(spec(place, b"delivered", 0o600), run_dir=directory / "run")
assert place.read_bytes() == source.read_bytes() == b"delivered"
assert place.stat().st_mode & 0o777 == 0o600
"""
RESTORED = """
assert snapshot(directory) == before
assert source.read_bytes() == b"was here"
after = source.stat()
assert (after.st_uid, after.st_mtime_ns) == (status.st_uid, status.st_mtime_ns)
"""
KILLED = """
if os.fork() == 0:
    write(spec(place, b"delivered"), run_dir=directory / "run")
    os._exit(0)
os.wait()
assert source.read_bytes() == b"delivered"
Files().recover(str(directory / "run"))
"""
TWICE = """
write(spec(place, b"first"), spec(place, b"second"), run_dir=directory / "run").undo()
"""
REFUSED = """
why = refused(spec(place))
assert "place: it is a mount point, and cannot be written in place (Read-only" in why, why
assert why.endswith("mount its directory")
assert snapshot(directory) == before
"""


def run(tmp_path: Path, program: str, option: str = "bind") -> None:
    directory, source = tmp_path / "directory", tmp_path / "source"
    directory.mkdir()
    (directory / "place").touch()
    source.write_bytes(b"was here")
    source.chmod(0o640)
    os.chown(source, 65534, 65534)
    os.utime(source, ns=(10**18, 10**18))
    mount = f'mount -o {option} "$3" "$2/place"; exec "$0" -c "$@"'
    subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mount, sys.executable, program, directory, source],
        check=True, cwd=ROOT, env=clean_environment(),
    )  # fmt: skip


@pytest.mark.parametrize(
    "program",
    [WRITTEN + "files.undo()" + RESTORED, KILLED + RESTORED, TWICE + RESTORED],
    ids=["undone", "killed", "twice"],
)
def test_it_is_written_in_place_and_restored(tmp_path: Path, program: str) -> None:
    run(tmp_path, BEGIN + program)


def test_one_that_cannot_be_written_says_what_would_do(tmp_path: Path) -> None:
    run(tmp_path, BEGIN + REFUSED, "bind,ro")
