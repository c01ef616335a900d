"""Files of an activation: written complete or not at all, and undone to the byte."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.launcher.errors import LaunchError
from proxy.launcher.upstream import place, room
from tests.launcher.upstream.placing import SECRET, immutable, mode, refused, snapshot, spec, write

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.parametrize("wanted", [0o600, 0o400, 0o644, 0o660, 0o777, 0o000], ids=oct)
def test_mode_is_exact_whatever_the_umask(tmp_path: Path, umask: int, wanted: int) -> None:
    write(spec(tmp_path / "f", b"content", wanted))
    assert mode(tmp_path / "f") == wanted


def test_run_dir_is_private_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    tmp_path.chmod(0o700)
    write(run_dir=tmp_path / "run")
    assert mode(tmp_path / "run") == 0o700


def test_everything_is_undone_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\0before\xff")
    (tmp_path / "file").chmod(0o751)
    os.utime(tmp_path / "file", (1, 2))
    (tmp_path / "outside").write_bytes(b"outside")
    (tmp_path / "link").symlink_to("outside")
    (tmp_path / "dangling").symlink_to("nowhere")
    before = snapshot(tmp_path)
    run = tmp_path / "run"
    names = ["file", "link", "dangling", "new", "a/b/c/new"]
    files = write(
        *(spec(tmp_path / name, name.encode()) for name in names),
        spec(run / "deep" / "config.json"),
        run_dir=run,
    )
    for name in names:
        assert (tmp_path / name).read_bytes() == name.encode()
        assert not (tmp_path / name).is_symlink()
        assert mode(tmp_path / name) == 0o600
    assert (tmp_path / "outside").read_bytes() == b"outside"
    files.undo()
    assert snapshot(tmp_path) == before
    assert not files.written
    files.undo()


def test_one_file_written_twice_goes_back_to_the_first_state(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"before")
    files = write(spec(tmp_path / "f", b"1"), spec(tmp_path / "f", b"2"))
    assert (tmp_path / "f").read_bytes() == b"2"
    files.undo()
    assert snapshot(tmp_path).keys() == {"f"}
    assert (tmp_path / "f").read_bytes() == b"before"


def test_what_the_upstream_did_with_its_files_does_not_hinder_the_undo(tmp_path: Path) -> None:
    run = tmp_path / "run"
    files = write(
        spec(run / "config"), spec(tmp_path / "gone"), spec(tmp_path / "dir" / "f"), run_dir=run
    )
    (run / "cache" / "deep").mkdir(parents=True)
    (run / "cache" / "deep" / "file").write_text("x")
    (run / "cache" / "link").symlink_to(tmp_path)
    (run / "cache" / "dead").symlink_to("nowhere")
    os.mkfifo(run / "pipe")
    (tmp_path / "gone").unlink()
    (tmp_path / "dir" / "kept").write_text("the upstream's own")
    files.undo()
    assert snapshot(tmp_path).keys() == {"dir", "dir/kept"}


def test_run_dir_that_was_there_keeps_its_content_and_mode(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    run.chmod(0o755)
    (run / "before").write_text("x")
    files = write(spec(run / "new"), run_dir=run)
    assert mode(run) == 0o700
    files.undo()
    assert mode(run) == 0o755
    assert [path.name for path in run.iterdir()] == ["before"]


def test_leftovers_in_the_run_dir_are_not_kept(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config").write_text("another user's key")
    files = write(spec(run / "config", b"mine"), run_dir=run)
    assert snapshot(run).keys() == {"config", room.NOTE}
    assert (run / "config").read_bytes() == b"mine"
    files.undo()
    assert list(run.iterdir()) == []


@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
def test_the_run_dir_is_one_launchers_until_it_is_undone(tmp_path: Path, *, there: bool) -> None:
    """Else the one that ends late would take away what the next one has written."""
    run = tmp_path / "run"
    if there:
        run.mkdir()
    before = snapshot(tmp_path)
    first = write(spec(run / "config", b"first"), run_dir=run)
    text = refused(spec(run / "config", b"second"), run_dir=run)
    assert text == f"cannot use {run}: another launcher has not yet undone what it wrote"
    assert (run / "config").read_bytes() == b"first"
    first.undo()
    second = write(spec(run / "config", b"second"), run_dir=run)
    assert (run / "config").read_bytes() == b"second"
    second.undo()
    assert snapshot(tmp_path) == before


def test_long_names_and_relative_paths_work(tmp_path: Path) -> None:
    files = write(spec("n" * 255), spec("sub/file"), cwd=tmp_path)
    assert snapshot(tmp_path).keys() == {"n" * 255, "sub", "sub/file"}
    files.undo()
    assert snapshot(tmp_path) == {}


def test_failure_undoes_what_was_written_before_it(tmp_path: Path) -> None:
    (tmp_path / "first").write_bytes(b"before")
    (tmp_path / "directory").mkdir()
    before = snapshot(tmp_path)
    error = refused(
        spec(tmp_path / "first", SECRET.encode()),
        spec(tmp_path / "new" / "second", SECRET.encode()),
        spec(tmp_path / "directory", SECRET.encode()),
        run_dir=tmp_path / "run",
    )
    assert error == f"cannot write {tmp_path}/directory: it is not a regular file"
    assert snapshot(tmp_path) == before


def test_faults_are_named_with_their_path(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path)
    before = snapshot(tmp_path)
    under_file = spec(tmp_path / "file" / "below")
    assert refused(under_file) == f"cannot write {tmp_path}/file/below: Not a directory"
    assert refused(spec(tmp_path / "pipe")).endswith("pipe: it is not a regular file")
    assert refused(spec(tmp_path / ("n" * 256))).endswith(os.strerror(errno.ENAMETOOLONG))
    assert refused(run_dir=tmp_path / "file").endswith(
        "file: Not a directory; upstream.run_dir names another place"
    )
    assert refused(run_dir=tmp_path / "link").startswith(f"cannot make {tmp_path}/link: ")
    assert snapshot(tmp_path) == before


def test_run_dir_of_another_user_is_refused(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        run, owner = tmp_path / "run", 65534
        run.mkdir()
        os.chown(run, owner, -1)
    else:
        run, owner = Path("/"), 0
    assert refused(run_dir=run) == f"cannot use {run}: it belongs to uid {owner}"


def test_what_could_not_be_undone_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"before")
    files = write(spec(tmp_path / "kept"), spec(tmp_path / "new"), spec(tmp_path / "last"))
    with immutable(tmp_path / "new"):
        with pytest.raises(LaunchError) as caught:
            files.undo()
        assert str(caught.value) == f"cannot undo {tmp_path}/new: Operation not permitted"
        assert (tmp_path / "kept").read_bytes() == b"before"
    files.undo()
    assert not files.written
    assert snapshot(tmp_path).keys() == {"kept"}


def test_foreign_file_under_a_hidden_name_is_not_taken_for_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    (tmp_path / place.hidden("f", "new")).symlink_to(tmp_path / "elsewhere")
    files = write(spec(path))
    assert snapshot(tmp_path).keys() == {"f"}
    files.undo()
    if os.geteuid() == 0:  # only root can make one
        old = tmp_path / place.hidden("f", "old")
        old.write_text("x")
        os.chown(old, 65534, -1)
        assert refused(spec(path)) == f"cannot write {path}: {old.name} is in the way"
