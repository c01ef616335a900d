"""Files of an activation, by a launcher that starts an upstream with them, or dies."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.launcher.launching import Launcher, encoded
from tests.launcher.upstream.placing import SECRET, snapshot

if TYPE_CHECKING:
    from pathlib import Path


def test_working_directory_that_is_gone_hinders_only_relative_paths(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    with Launcher(cwd=gone) as launcher:
        gone.rmdir()
        answer = launcher.try_start("true", files=[{"path": "f", "content": ""}])
        assert answer["error"].startswith("cannot find the working directory: ")
        launcher.start("sleep", "600", files=[encoded(tmp_path / "f", b"x")], cwd="/")
        assert (tmp_path / "f").read_bytes() == b"x"


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


def test_start_that_cannot_write_starts_nothing(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    with Launcher() as launcher:
        answer = launcher.try_start("touch", str(ran), files=[encoded(tmp_path, SECRET.encode())])
        assert answer["error"] == f"cannot write {tmp_path}: it is not a regular file"
        assert launcher.children() == []
        assert list(tmp_path.iterdir()) == []
