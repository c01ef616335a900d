"""Junk in, faults out: never another exception, and every fault one printable line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import SettingsError
from proxy.settings import Settings, load_settings
from proxy.settings.reading.faults import UNFORESEEN

if TYPE_CHECKING:
    from pathlib import Path

_WORDS = ["init", "key", "upstream", "mapping", "fields", "files", "env", "listen", "web_url"]
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_TREES = st.recursive(
    _LEAVES | st.sampled_from(_WORDS),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=12,
)


def settings_or_faults(file: Path | None, environ: dict[str, str]) -> None:
    try:
        found = load_settings(file, environ)
    except SettingsError as error:
        faults = error.faults
    else:
        assert isinstance(found, Settings)
        return
    assert faults
    assert all(fault.isprintable() and UNFORESEEN not in fault for fault in faults)


@pytest.fixture(scope="module")
def junk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("junk") / "proxy.yaml"


@settings(max_examples=150, deadline=None)
@given(content=st.binary(max_size=200))
def test_junk_bytes(junk: Path, content: bytes) -> None:
    junk.write_bytes(content)
    settings_or_faults(junk, {})


@settings(max_examples=150, deadline=None)
@given(content=st.text("{}[]:,&*!|>'\"%@`?- \n\tab1<#~.\\xu0", max_size=60))
def test_junk_yaml(junk: Path, content: str) -> None:
    junk.write_text(content)
    settings_or_faults(junk, {})


@settings(max_examples=200, deadline=None)
@given(tree=st.dictionaries(st.sampled_from([*Settings.model_fields, "zzz"]), _TREES))
def test_junk_trees(junk: Path, tree: dict[str, object]) -> None:
    junk.write_text(json.dumps(tree))
    settings_or_faults(junk, {})


_NAMES = ["PROXY_INIT", "PROXY_UPSTREAM__MAPPING", "PROXY_UPSTREAM__ENV", "PROXY_LIMITS__X",
          "OH_SECRET_KEY", "OH_DEFERRED_INIT", "PROXY_LISTEN__ADDRESS", "PROXY_UPSTREAM__URL",
          "PROXY_UPSTREAM__COMMAND", "PROXY_UPSTREAM__MAPPING__FILES"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(_NAMES) | st.text(max_size=5).map(lambda text: "PROXY_" + text),
        st.text('{}[]",:/.@%a1 \udcff\n', max_size=30) | st.text(max_size=10),
    )
)
def test_junk_environment(environ: dict[str, str]) -> None:
    settings_or_faults(None, environ)
