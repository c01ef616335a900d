"""The JSON Schema of the settings says what the models do."""

from __future__ import annotations

import json

from proxy.settings import Settings


def test_the_schema_describes_every_key_and_marks_the_secret() -> None:
    schema = Settings.model_json_schema()
    for model in [schema, *schema["$defs"].values()]:
        for name, key in model.get("properties", {}).items():
            assert key.get("description"), name
            assert key.get("title") or "$ref" in key, name
    key = json.dumps(schema["$defs"]["InitSettings"]["properties"]["key"])
    assert '"writeOnly": true' in key


def test_the_schema_has_the_defaults_and_bounds_that_hold() -> None:
    schema = Settings.model_json_schema()
    written = Settings().model_dump(mode="json")
    for name, key in schema["properties"].items():
        assert key["default"] == written[name]
        described = schema["$defs"].get(key.get("$ref", "").rpartition("/")[2], {})
        for inner, inner_key in described.get("properties", {}).items():
            assert inner_key.get("default", {}) in (written[name][inner], {}), inner
    assert schema["$defs"]["FileMapping"]["properties"]["mode"]["default"] == "0600"
    timeout = schema["$defs"]["InitSettings"]["properties"]["timeout"]
    assert timeout["exclusiveMinimum"] == 0
    connections = schema["$defs"]["LimitSettings"]["properties"]["connections"]
    assert (connections["minimum"], connections["maximum"]) == (1, 1_000_000)
