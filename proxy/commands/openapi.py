"""`openapi`: the OpenAPI document of the control plane."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "openapi",
        help="print the OpenAPI document of /api/init, /health and /ready",
        description="Print the OpenAPI 3.1 document of what the proxy itself answers: /api/init, "
        "/health and /ready. The admin listener serves it too, at /openapi.json.",
    )
    parser.set_defaults(run=run)


def run(_args: argparse.Namespace) -> int:
    from proxy.control.openapi import document  # noqa: PLC0415  the other commands need none

    print(json.dumps(document(), indent=2))  # noqa: T201  the answer
    return 0
