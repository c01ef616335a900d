"""`config.example.yaml` has every key with its default, and its example mapping is valid."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import yaml

from proxy.settings import Settings, load_settings
from proxy.settings.mapping import INIT_FIELDS, FieldMapping, FileMapping, MappingSettings
from proxy.settings.profiles import OPENHANDS
from proxy.settings.reading.yamlfile import read_yaml
from tests.harness import ROOT

if TYPE_CHECKING:
    from pathlib import Path

EXAMPLE = ROOT / "config.example.yaml"


def mapping_example() -> str:
    """The commented lines that show a mapping, as YAML."""
    lines = EXAMPLE.read_text().splitlines()
    start = lines.index("  # profile: none")
    end = next(i for i in range(start, len(lines)) if not lines[i].startswith("  #"))
    return "\n".join(line.removeprefix("  #").removeprefix(" ") for line in lines[start:end])


def test_the_example_has_every_key_and_every_default() -> None:
    document = read_yaml(EXAMPLE)
    assert not document.faults
    assert document.data == Settings().model_dump(mode="json")


def test_the_example_is_valid_as_it_is() -> None:
    assert load_settings(EXAMPLE, {}) == Settings()


def test_other_yaml_readers_understand_the_example_alike() -> None:
    assert yaml.safe_load(EXAMPLE.read_text()) == read_yaml(EXAMPLE).data


def test_every_key_is_explained() -> None:
    """A key that is no section follows a comment, or a key that shares its comment."""
    explained = False
    for line in EXAMPLE.read_text().splitlines():
        text = line.strip()
        if not text:
            explained = False
        elif text.startswith("#"):
            explained = True
        elif not text.endswith(":"):
            assert explained, line


def test_the_example_of_a_mapping_is_valid_and_shows_every_key_of_it(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("upstream:\n" + textwrap.indent(mapping_example(), "  "))
    pool = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": "k"}
    mapping = load_settings(file, pool).upstream.mapping
    shown: dict[str, Any] = yaml.safe_load(mapping_example())["mapping"]
    fields = {key for field in shown["fields"].values() for key in field}
    files = {key for described in shown["files"].values() for key in described}
    assert fields == set(FieldMapping.model_fields)
    assert files == set(FileMapping.model_fields)
    assert set(mapping.files) == {"server", "login", "variables"}
    assert set(shown) == set(MappingSettings.model_fields)


def test_the_fields_that_can_be_mapped_are_those_of_the_contract() -> None:
    from proxy.lifecycle.contract import InitRequest  # noqa: PLC0415

    assert set(INIT_FIELDS) == set(InitRequest.model_fields)
    assert set(OPENHANDS.fields) == set(INIT_FIELDS) - {"env"}
