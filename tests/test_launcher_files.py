"""Files of an activation: written complete or not at all, and undone to the byte."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from proxy.launcher import place
from proxy.launcher.errors import LaunchError
from proxy.launcher.files import Files
from proxy.launcher.spec import FileSpec
from tests.launching import Launcher, encoded

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = "s3cr3t-content"


@pytest.fixture(params=[0o000, 0o022, 0o777], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def snapshot(directory: Path) -> dict[str, tuple[int, int, bytes | str | None]]:
    """Every entry below `directory`: mode, modification time, content or target."""
    found: dict[str, tuple[int, int, bytes | str | None]] = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content: bytes | str | None = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        # Directories get another time by any entry that comes or goes.
        when = 0 if path.is_dir() and not path.is_symlink() else status.st_mtime_ns
        found[str(path.relative_to(directory))] = (stat.S_IMODE(status.st_mode), when, content)
    return found


def spec(
    path: Path | str, content: bytes = b"x", mode: int = 0o600, base: Path | None = None
) -> FileSpec:
    return FileSpec(str(path), content, mode, str(base) if base is not None else None)


def write(*files: FileSpec, run_dir: Path | None = None, cwd: Path | None = None) -> Files:
    written = Files()
    written.write(list(files), str(run_dir) if run_dir else None, str(cwd) if cwd else None)
    return written


def refused(*files: FileSpec, run_dir: Path | None = None) -> str:
    with pytest.raises(LaunchError) as caught:
        write(*files, run_dir=run_dir)
    return str(caught.value)


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
    assert snapshot(run).keys() == {"config"}
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


def test_working_directory_that_is_gone_hinders_only_relative_paths(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with Launcher(cwd=gone) as launcher:
        gone.rmdir()
        answer = launcher.try_start("true", files=[{"path": "f", "content": ""}])
        assert answer["error"].startswith("cannot find the working directory: ")
        launcher.start("sleep", "600", files=[encoded(tmp_path / "f", b"x")], cwd="/")
        assert (tmp_path / "f").read_bytes() == b"x"


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
    assert refused(run_dir=tmp_path / "file").endswith("file: Not a directory")
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


def test_delivered_keys_lie_over_the_base_file(tmp_path: Path) -> None:
    base = tmp_path / "base.json"
    base.write_text(json.dumps({"kept": {"a": 1}, "over": {"a": 1, "b": 2}}))
    write(spec(tmp_path / "out", json.dumps({"over": {"a": 9}, "new": []}).encode(), base=base))
    merged = json.loads((tmp_path / "out").read_text())
    assert merged == {"kept": {"a": 1}, "over": {"a": 9}, "new": []}
    assert mode(tmp_path / "out") == 0o600


def test_base_file_may_be_the_file_itself_and_comes_back(tmp_path: Path) -> None:
    out = tmp_path / "config.json"
    out.write_text('{"a": 1}\n')
    files = write(spec(out, b'{"b": 2}', base=out))
    assert json.loads(out.read_text()) == {"a": 1, "b": 2}
    files.undo()
    assert out.read_text() == '{"a": 1}\n'


def test_missing_base_file_counts_as_empty(tmp_path: Path) -> None:
    write(spec(tmp_path / "out", b'{"a": 1}', base=tmp_path / "none"))
    assert json.loads((tmp_path / "out").read_text()) == {"a": 1}


@pytest.mark.parametrize(
    "content",
    [
        f'["{SECRET}"]'.encode(),
        f'{{"a": {SECRET}}}'.encode(),
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b"null",
    ],
    ids=["list", "broken", "empty", "not utf-8", "deep", "null"],
)
def test_base_file_that_is_no_object_is_named_but_not_quoted(
    tmp_path: Path, content: bytes
) -> None:
    base = tmp_path / "base.json"
    base.write_bytes(content)
    error = refused(spec(tmp_path / "out", b"{}", base=base))
    assert error == f"cannot read base file {base}: it is not a JSON object"
    assert refused(spec(tmp_path / "out", content, base=tmp_path / "none")) == (
        f"cannot merge {tmp_path}/out with {tmp_path}/none:"
        " the delivered content is not a JSON object"
    )
    assert snapshot(tmp_path).keys() == {"base.json"}


def test_base_file_that_would_block_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    error = refused(spec(tmp_path / "out", b"{}", base=tmp_path / "pipe"))
    assert error == f"cannot read base file {tmp_path}/pipe: it is not a regular file"
    error = refused(spec(tmp_path / "out", b"{}", base=tmp_path))
    assert error == f"cannot read base file {tmp_path}: it is not a regular file"


def test_what_could_not_be_undone_is_named_and_tried_again(tmp_path: Path) -> None:
    (tmp_path / "kept").write_bytes(b"before")
    files = write(spec(tmp_path / "kept"), spec(tmp_path / "new"), spec(tmp_path / "last"))
    (tmp_path / "new").unlink()
    (tmp_path / "new").mkdir()
    with pytest.raises(LaunchError) as caught:
        files.undo()
    assert str(caught.value) == f"cannot undo {tmp_path}/new: Is a directory"
    assert (tmp_path / "kept").read_bytes() == b"before"
    (tmp_path / "new").rmdir()
    files.undo()
    assert not files.written
    assert snapshot(tmp_path).keys() == {"kept"}


def test_upstream_finds_the_files_and_a_restart_begins_from_the_first_state(
    tmp_path: Path,
) -> None:
    target, run = tmp_path / "config", tmp_path / "run"
    target.write_bytes(b"before")
    fields = {"files": [encoded(target, b"delivered\n", 0o640)], "run_dir": str(run)}
    with Launcher() as launcher:
        for _ in range(3):
            launcher.start("sh", "-c", f"cat {target}; stat -c %a {target} {run}", **fields)
            launcher.event("exit", code=0)
            launcher.events.clear()
            # The upstream ended by itself: its files stay until it is stopped or started anew.
            assert target.read_bytes() == b"delivered\n"
        launcher.start("sh", "-c", f"cat {target}; stat -c %a {target} {run}", **fields)
        launcher.event("exit", code=0)
        assert launcher.output() == ["delivered", "640", "700"]
        launcher.stop()
        assert target.read_bytes() == b"before"
        assert snapshot(tmp_path).keys() == {"config"}


def test_what_a_killed_launcher_had_replaced_comes_back_with_the_next_one(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    config, link = work / "config.json", work / "link"
    config.write_text('{"kept": 1}')
    link.symlink_to("nowhere")
    before = snapshot(work)
    files = [encoded(config, b'{"delivered": 1}', base=config), encoded(link, b"x")]
    for _ in range(2):
        with Launcher() as launcher:
            launcher.start("sleep", "600", files=files)
            assert json.loads(config.read_text()) == {"kept": 1, "delivered": 1}
            assert link.read_bytes() == b"x"
            launcher.process.kill()
            launcher.process.wait()
        assert snapshot(work) != before
    with Launcher() as launcher:
        launcher.start("sleep", "600", files=files)
        assert json.loads(config.read_text()) == {"kept": 1, "delivered": 1}
        launcher.stop()
        assert snapshot(work) == before


def test_foreign_file_under_a_hidden_name_is_not_taken_for_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "f"
    Path(place.hidden(str(path), "new")).symlink_to(tmp_path / "elsewhere")
    files = write(spec(path))
    assert snapshot(tmp_path).keys() == {"f"}
    files.undo()
    if os.geteuid() == 0:  # only root can make one
        old = Path(place.hidden(str(path), "old"))
        old.write_text("x")
        os.chown(old, 65534, -1)
        assert refused(spec(path)) == f"cannot write {path}: {old} is in the way"


def test_start_that_cannot_write_starts_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Launcher() as launcher:
        answer = launcher.try_start("touch", str(ran), files=[encoded(tmp_path, SECRET.encode())])
        assert answer["error"] == f"cannot write {tmp_path}: it is not a regular file"
        assert launcher.children() == []
        assert list(tmp_path.iterdir()) == []
