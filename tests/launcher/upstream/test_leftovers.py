"""Whatever one start has left, the next one is neither stopped nor led astray by it."""

from __future__ import annotations

import functools
import json
import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.launcher.upstream import place, room, tree
from proxy.launcher.upstream.files import Files
from tests.launcher.launching import Launcher, alive, encoded
from tests.launcher.upstream.placing import (
    SECRET,
    immutable,
    in_fork,
    snapshot,
    spec,
    unprivileged,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that any user reaches."""
    made = Path(tempfile.mkdtemp(prefix="leftovers-"))
    yield made
    for directory, _, _ in os.walk(made):
        Path(directory).chmod(0o700)
    shutil.rmtree(made)


def dig(directory: Path, depth: int) -> None:
    before = os.open(".", os.O_RDONLY)
    os.chdir(directory)
    for _ in range(depth):
        os.mkdir("d")  # noqa: PTH102  the path would be too long
        os.chdir("d")
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY))
    os.fchdir(before)
    os.close(before)


def replaced_by_a_directory(run: Path) -> None:
    (run / "config").unlink()
    (run / "config").mkdir()
    (run / "config" / "x").write_text("1")


def deep(run: Path) -> None:
    dig(run, 3000)  # far beyond the longest path, and any recursion


def wide(run: Path) -> None:
    for number in range(30):
        (run / f"{number}").mkdir()
        dig(run / f"{number}", 20)


def unreadable(run: Path) -> None:
    (run / "a" / "b").mkdir(parents=True)
    (run / "a" / "b").chmod(0)
    (run / "a").chmod(0)


def read_only(run: Path) -> None:
    (run / "a" / "b" / "c").mkdir(parents=True)
    (run / "a" / "f").write_text("1")
    for name in ("a/b/c", "a/b", "a"):
        (run / name).chmod(0o555)


def unwritable_itself(run: Path) -> None:
    run.chmod(0o500)


def links(run: Path) -> None:
    (run / "up").symlink_to("..")
    (run / "dangling").symlink_to("nowhere")
    (run / "d").mkdir()
    (run / "d" / "out").symlink_to(run.parent)


TREES: list[Callable[[Path], None]] = [
    replaced_by_a_directory,
    deep,
    wide,
    unreadable,
    read_only,
    unwritable_itself,
    links,
]


@pytest.mark.parametrize("build", TREES, ids=lambda build: build.__name__)
@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
def test_no_tree_in_the_run_dir_hinders_the_undo(
    open_path: Path, build: Callable[[Path], None], *, there: bool
) -> None:
    run = Path("run")
    if there:
        (open_path / "run").mkdir()
        (open_path / "run" / "stood").write_text("before")

    def two_users() -> None:
        said: list[str] = []
        files = Files(said.append)
        for _ in range(2):
            files.write([spec(run / "config")], str(run), None)
            build(run)
            files.undo()
        assert said == []
        assert run.exists() == there

    before = snapshot(open_path)
    unprivileged(open_path, two_users)
    assert snapshot(open_path) == before


@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
def test_what_cannot_be_removed_is_moved_aside_and_said(tmp_path: Path, *, there: bool) -> None:
    run = tmp_path / "run"
    if there:
        run.mkdir()
    said: list[str] = []
    files = Files(said.append)
    files.write([spec(run / "config")], str(run), None)
    dig(run, 3)
    (run / "config").unlink()
    (run / "config").mkdir()
    stuck = run / "config" / "x"
    stuck.write_text("1")
    with immutable(stuck):
        files.undo()
        assert said[0].startswith(f"{run}: config cannot be removed (Operation not permitted) and")
        (aside,) = run.iterdir()
        assert aside.name in said[0]
        for _ in range(2):
            files.write([spec(run / "config", SECRET.encode())], str(run), None)
            assert (run / "config").read_text() == SECRET
            files.undo()
        assert list(run.iterdir()) == [aside]
        stuck = aside / "x"
        assert stuck.read_text() == "1"


def test_a_run_dir_that_was_exchanged_for_a_link_leads_nowhere(tmp_path: Path) -> None:
    run, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "precious").write_text("1")
    for there in (False, True):
        if there:
            run.mkdir()
        files = write(spec(run / "config", SECRET.encode()), run_dir=run)
        run.rename(tmp_path / "moved")
        run.symlink_to(elsewhere)
        files.undo()
        assert not os.path.lexists(run)
        assert list((tmp_path / "moved").iterdir()) == []
        assert snapshot(elsewhere).keys() == {"precious"}
        (tmp_path / "moved").rmdir()


@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
@pytest.mark.parametrize("inside", [False, True], ids=["elsewhere", "in the run dir"])
def test_a_link_in_the_place_of_a_directory_that_was_made_is_not_followed(
    tmp_path: Path, *, there: bool, inside: bool
) -> None:
    run, volume = tmp_path / "run", tmp_path / "volume"
    volume.mkdir()
    if there:
        run.mkdir()
    conf = (run if inside else tmp_path) / "conf"
    files = write(spec(conf / "config", b"of the first"), run_dir=run)
    shutil.rmtree(conf)
    conf.symlink_to(volume)
    files.undo()
    assert not os.path.lexists(conf)
    second = write(spec(conf / "config", SECRET.encode()), run_dir=run)
    assert list(volume.iterdir()) == []
    second.undo()


def test_a_link_below_the_run_dir_that_stood_there_is_not_followed(tmp_path: Path) -> None:
    run, volume = tmp_path / "run", tmp_path / "volume"
    volume.mkdir()
    run.mkdir()
    (run / "conf").symlink_to(volume)
    before = snapshot(tmp_path)
    with pytest.raises(Exception, match=f"cannot write {run}/conf/config: Not a directory"):
        write(spec(run / "conf" / "config", SECRET.encode()), run_dir=run)
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("there", [False, True], ids=["made", "there before"])
def test_the_successor_of_a_launcher_that_was_killed_takes_back_all_of_it(
    tmp_path: Path, *, there: bool
) -> None:
    run = tmp_path / "run"
    config = tmp_path / "config"
    config.write_text("before")
    if there:
        (run / "conf").mkdir(parents=True)
        (run / "conf" / "stood").write_text("before")
        run.chmod(0o750)
    before = snapshot(tmp_path)
    files = [
        encoded(path, SECRET.encode())
        for path in (config, tmp_path / "new", tmp_path / "d/e/new", run / "a", run / "conf/deep/b")
    ]
    with Launcher() as launcher:
        script = f"echo history >{run}/conf/history; echo mine >{run}/history; echo done; sleep 600"
        pid = launcher.start("sh", "-c", script, files=files, run_dir=str(run))["pid"]
        launcher.line("done")
        launcher.process.kill()
        launcher.process.wait()
    while alive(pid):  # with its descriptors, which the directory's lock is none of
        pass
    assert SECRET in (tmp_path / "new").read_text()
    with Launcher() as launcher:
        assert launcher.call("prepare", argv=["true"], run_dir=str(run))["ok"]
        if there:
            (run / "conf" / "history").unlink()  # in a directory that is somebody else's
        assert snapshot(tmp_path) == before


def test_what_a_living_launcher_has_written_is_nobody_elses_to_take_back(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Launcher() as first, Launcher() as second:
        first.start("sleep", "600", files=[encoded(run / "a", b"x")], run_dir=str(run))
        assert second.call("prepare", argv=["true"], run_dir=str(run))["ok"]
        assert (run / "a").read_bytes() == b"x"
        assert first.call("prepare", argv=["true"], run_dir=str(run))["ok"]
        assert (run / "a").read_bytes() == b"x"


@pytest.mark.parametrize(
    "note",
    [
        "",
        "[]",
        "{}",
        '{"version": 2, "room": {}, "steps": []}',
        "[" * 100_000,
        '{"version": 1}',
        '{"version": 1, "room": {}, "steps": [{}]}',
        '{"version": 1, "room": {"made": true, "stood": 1, "mode": "", "inside": [1]}, "steps": 0}',
    ],
)
def test_a_note_that_makes_no_sense_is_nobodys(tmp_path: Path, note: str) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / room.NOTE).write_text(note)
    (run / "stood").write_text("x")
    files = write(spec(run / "config"), run_dir=run)
    files.undo()
    assert (run / "stood").exists()


@pytest.mark.parametrize("way", ["../outside/precious", "way/precious", "/outside/precious", "."])
def test_a_note_cannot_lead_out_of_the_run_dir(tmp_path: Path, way: str) -> None:
    """It lies where the upstream's code may write."""
    run, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("x")
    run.mkdir()
    (run / "way").symlink_to(outside)
    facts = {"made": True, "mode": 0o700, "stood": ["way"], "inside": [[way, False]]}
    (run / room.NOTE).write_text(json.dumps({"version": 1, "steps": [], "room": facts}))
    Files().recover(str(run))
    assert snapshot(outside).keys() == {"precious"}


def test_the_note_of_a_start_is_gone_with_it(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    files = write(spec(tmp_path / "run" / "config"), run_dir=tmp_path / "run")
    files.undo()
    assert list((tmp_path / "run").iterdir()) == []


def test_entries_are_removed_by_descriptor_though_the_working_directory_is_gone(
    tmp_path: Path,
) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    (tmp_path / "d").mkdir()
    tree.remove(fd, "d")
    tree.remove(fd, "d")
    os.close(fd)
    assert list(tmp_path.iterdir()) == []


def test_a_launcher_killed_at_any_moment_leaves_nothing_to_its_successor(tmp_path: Path) -> None:
    for name in ("replaced", "base"):
        (tmp_path / name).write_text('{"of": "the image"}')
    run = tmp_path / "run"
    run.mkdir(0o700)
    before = snapshot(tmp_path)
    files = [
        spec(run / "config", SECRET.encode()),
        spec(tmp_path / "made" / "on" / "the" / "way", SECRET.encode()),
        spec(tmp_path / "replaced", json.dumps({"key": SECRET}).encode(), base=tmp_path / "base"),
        spec(tmp_path / "replaced", SECRET.encode()),
    ]

    def write_some(left: int) -> None:
        def count(event: str, _: object) -> None:
            nonlocal left
            left -= event.startswith(("os.", "open", "fcntl."))
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        write(*files, run_dir=run)

    steps = 0
    while in_fork(functools.partial(write_some, steps)) != 0:
        Files().recover(str(run))
        # Of the first note, which tells nothing yet, there may be an unfinished one.
        (run / place.hidden(room.NOTE, "new")).unlink(missing_ok=True)
        assert snapshot(tmp_path) == before, steps
        steps += 1
    assert steps > 20
