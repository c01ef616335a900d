"""`openapi`: the OpenAPI document of the control plane."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "openapi",
        help="print the OpenAPI document of what the proxy itself answers",
        description="Print the OpenAPI 3.1 document of what the proxy itself answers: /api/init "
        "and its login links, /health and /ready. With FILE and the environment it is that of a "
        "proxy with these settings: its paths, its fields of an init. The admin listener serves "
        "it too, at /openapi.json.",
    )
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="YAML settings")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Raises `SettingsError`."""
    from proxy.control.openapi import Surface, document  # noqa: PLC0415  the others need none

    surface = Surface()
    if args.file is not None:
        from proxy.server.admin import surface_of  # noqa: PLC0415
        from proxy.settings import load_settings  # noqa: PLC0415

        surface = surface_of(load_settings(args.file, os.environ))
    print(json.dumps(document(surface), indent=2))  # noqa: T201  the answer
    return 0
