"""Files that are delivered over a base file: JSON objects, merged."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.launcher.upstream.placing import SECRET, mode, refused, snapshot, spec, write

if TYPE_CHECKING:
    from pathlib import Path


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
