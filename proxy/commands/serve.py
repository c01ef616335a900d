"""`serve`: run the proxy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="run the proxy",
        usage="%(prog)s [--config FILE] [-- COMMAND ...]",
        description="Run the proxy in front of an agent server. Settings come from FILE, then "
        "from the environment (PROXY_UPSTREAM__URL, OH_DEFERRED_INIT, OH_SECRET_KEY, ...), then "
        "the command to start after '--'. With neither a file nor a command, the embedded sample "
        "agent is served.",
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML settings")
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="starts the agent server (after '--')"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Here, because the other commands need none of it.
    from proxy.log import Log  # noqa: PLC0415
    from proxy.serve import run_server  # noqa: PLC0415
    from proxy.settings import load_settings  # noqa: PLC0415

    settings = load_settings(args.config, _environment(args), args.command or None)
    return run_server(settings, Log(settings.log.level, settings.log.format))


def _environment(args: argparse.Namespace) -> Mapping[str, str]:
    """The environment; under it the sample agent's settings when nothing names an upstream."""
    named = any(name.startswith("PROXY_UPSTREAM__") for name in os.environ)
    if args.config is not None or args.command or named:
        return os.environ
    from proxy.demo.sample import sample_settings_overrides  # noqa: PLC0415  rarely needed

    sample = {
        f"PROXY_{section}__{key}".upper(): value if isinstance(value, str) else json.dumps(value)
        for section, values in sample_settings_overrides().items()
        for key, value in values.items()
    }
    return sample | os.environ
