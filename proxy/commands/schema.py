"""`schema`: the JSON Schema of the settings file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "schema",
        help="print the JSON Schema of the settings",
        description="Print the JSON Schema of the settings file, for editors and pipelines. "
        "Rules between keys are beyond it: see 'check'.",
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    from proxy.settings import Settings  # noqa: PLC0415  the other commands need none

    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    print(json.dumps(schema | Settings.model_json_schema(), indent=2))  # noqa: T201  the answer
    return 0
