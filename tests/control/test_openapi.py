from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import yaml

from proxy.control.openapi import Surface, document
from proxy.lifecycle.contract import InitDetails, InitRequest
from tests.commands.test_commands import command
from tests.harness import echo_settings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.harness import Serve


def test_the_document_has_every_field_of_the_models() -> None:
    schemas = document()["components"]["schemas"]
    assert set(schemas["InitRequest"]["properties"]) == set(InitRequest.model_fields)
    assert schemas["InitRequest"]["additionalProperties"] is False
    assert set(schemas["InitDetails"]["properties"]) == set(InitDetails.model_fields)


def test_every_reference_leads_somewhere() -> None:
    spec = document()
    references = set(re.findall(r'"\$ref": "#/components/schemas/(\w+)"', json.dumps(spec)))
    assert references
    assert references <= set(spec["components"]["schemas"])


def test_names_and_texts_are_bounded_as_the_validators_bound_them() -> None:
    fields = document()["components"]["schemas"]["InitRequest"]["properties"]
    env = fields["env"]["anyOf"][0]
    for name, right in (("A", True), ("", False), ("A=B", False), ("A\0", False)):
        assert bool(re.search(env["propertyNames"]["pattern"], name)) is right
    key = fields["session_api_keys"]["anyOf"][0]["items"]
    for text, right in (("k", True), ("\nk ", True), ("", False), (" ", False), ("k\0", False)):
        assert bool(re.search(key["pattern"], text)) is right


async def test_the_command_prints_it() -> None:
    printed = await command("openapi")
    assert (printed.code, json.loads(printed.out)) == (0, document())


async def test_the_admin_listener_serves_it(serve: Serve, tmp_path: Path) -> None:
    settings = echo_settings(tmp_path)
    settings["listen"]["admin"] = f"unix:{tmp_path / 'admin.sock'}"
    proxy = await serve(settings)
    await proxy.logged(lambda line: line.get("message") == "admin listening")
    connector = aiohttp.UnixConnector(str(tmp_path / "admin.sock"))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.get("http://admin/openapi.json") as answer,
    ):
        assert await answer.json() == document(Surface(login=False, alive_paths=("/alive",)))


OWN: dict[str, Any] = {
    "deferred_init": True,
    "init": {"key": "k"},
    "control": {"prefix": "/-"},
    "gate": {"session_keys": "enforce"},
    "upstream": {
        "profile": "none",
        "mapping": {
            "alive_paths": ["/livez"],
            "fields": {
                "token": {"type": "secret", "env": "T", "required": True},
                "tags": {"type": "list", "env": "TAGS", "encode": "comma"},
                "home": {"type": "path", "env": "H"},
                "depth": {"type": "integer", "env": "D"},
                "model_dump": {"type": "string", "env": "M"},
            },
        },
    },
}


async def test_the_document_of_certain_settings_has_their_paths_and_fields(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(yaml.safe_dump(OWN))
    printed = await command("openapi", str(file))
    assert printed.code == 0
    spec = json.loads(printed.out)
    assert set(spec["paths"]) == {
        "/-/api/init", "/-/api/init/login", "/-/health", "/-/ready", "/livez",
    }  # fmt: skip
    body = spec["components"]["schemas"]["InitRequest"]
    assert body["required"] == ["token"]
    kinds = {name: body["properties"][name]["anyOf"][0]["type"] for name in own_of(OWN)}
    assert kinds == {
        "token": "string", "tags": "array", "home": "string", "depth": "integer",
        "model_dump": "string",
    }  # fmt: skip
    home = body["properties"]["home"]["anyOf"][0]["pattern"]
    for text, right in (("/x", True), (" ", True), ("x", False), ("/\0", False)):
        assert bool(re.search(home, text)) is right


def own_of(settings: dict[str, Any]) -> list[str]:
    return list(settings["upstream"]["mapping"]["fields"])


async def test_settings_that_are_wrong_are_told(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("timout: 3")
    assert (await command("openapi", str(file))).code == 2
