"""What native libraries may read from the environment, judged by their names and their texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.launcher.audit.native import Native

if TYPE_CHECKING:
    from pathlib import Path

READS = b"\0getenv\0"


def reader(path: Path, content: bytes, name: str) -> bool:
    """Whether `name` counts as read by a library at `path` with `content`."""
    path.write_bytes(content)
    return Native([str(path)]).reader(name) == str(path)


@pytest.mark.parametrize("name", ["python3.12", "libpython3.12.so.1.0"])
def test_an_interpreter_is_known_unless_it_has_other_libraries_inside(
    tmp_path: Path, name: str
) -> None:
    words = READS + b"\0TERM\0\0STRING\0"
    assert not reader(tmp_path / name, words, "STRING")
    assert reader(tmp_path / name, words, "TERM")
    inside = words + b"\0SQLITE_TMPDIR\0TMPDIR\0TERMINFO\0"
    assert reader(tmp_path / name, inside, "TMPDIR")
    assert reader(tmp_path / name, inside, "TERMINFO")


@pytest.mark.parametrize(
    "name",
    ["libc.so.6", "libc-2.31.so", "libm.so.6", "ld-linux-x86-64.so.2", "ld-musl-x86_64.so.1"],
)
def test_the_c_library_is_known(tmp_path: Path, name: str) -> None:
    assert not reader(tmp_path / name, READS + b"\0STRING\0", "STRING")
    assert reader(tmp_path / name, b"", "COLUMNS")


@pytest.mark.parametrize("name", ["libc++.so.1", "libc-client.so.2007", "librt_mine.so", "mine.so"])
def test_any_other_library_is_searched(tmp_path: Path, name: str) -> None:
    assert reader(tmp_path / name, READS + b"\0STRING\0", "STRING")
    assert not reader(tmp_path / name, b"\0STRING\0", "STRING")  # it refers to no environment


def test_a_library_that_hands_getenv_to_python_may_read_anything(tmp_path: Path) -> None:
    """cffi's tables name what a program can call; the names that it asks for stand elsewhere."""
    assert reader(tmp_path / "mine.so", READS + b"\0_cffi_backend\0", "A_NAME_OF_NO_ONE")
    assert not reader(tmp_path / "mine.so", b"\0_cffi_backend\0", "A_NAME_OF_NO_ONE")
    assert not reader(tmp_path / "mine.so", READS, "A_NAME_OF_NO_ONE")
