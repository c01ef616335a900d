"""Whether a file was seen by another name while modules were preloaded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proxy.launcher.audit.sightings import Sightings

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_found_by_its_own_path_before_it_exists(tmp_path: Path) -> None:
    path = str(tmp_path / "absent" / "app.json")
    assert Sightings([path]).file(path) == path
    assert Sightings([path]).file(str(tmp_path / "absent" / "other.json")) is None


def test_a_file_is_found_behind_a_link_to_its_directory(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "alias").symlink_to("etc")
    seen = str(tmp_path / "alias" / "app.json")
    sightings = Sightings([seen])
    (tmp_path / "etc" / "app.json").write_text("{}")
    assert sightings.file(str(tmp_path / "etc" / "app.json")) == seen


def test_a_file_is_found_behind_a_link_with_another_name(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("app.json")
    seen = str(tmp_path / "link")
    sightings = Sightings([seen])
    (tmp_path / "app.json").write_text("{}")
    assert sightings.file(str(tmp_path / "app.json")) == seen


def test_a_file_is_found_when_the_link_has_been_turned_since(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    current = tmp_path / "current"
    current.symlink_to("one")
    seen = str(current / "app.json")
    sightings = Sightings([seen])
    current.unlink()
    current.symlink_to("two")
    (tmp_path / "two" / "app.json").write_text("{}")
    assert sightings.file(str(tmp_path / "two" / "app.json")) == seen


def test_a_file_that_is_put_in_anew_is_not_what_was_read_by_another_hard_link(
    tmp_path: Path,
) -> None:
    (tmp_path / "one").write_text("{}")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    sightings = Sightings([str(tmp_path / "one")])
    (tmp_path / "new").write_text("{}")
    (tmp_path / "new").rename(tmp_path / "two")
    assert sightings.file(str(tmp_path / "two")) is None


def test_a_directory_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "alias").symlink_to("conf.d")
    for one, other in (("conf.d", "alias"), ("alias", "conf.d"), ("conf.d", "conf.d")):
        seen = str(tmp_path / one)
        assert Sightings([seen]).directory(str(tmp_path / other)) == seen
    assert Sightings([str(tmp_path / "conf.d")]).directory(str(tmp_path)) is None
