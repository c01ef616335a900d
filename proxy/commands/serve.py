"""`serve`: run the proxy."""

from __future__ import annotations

import argparse
import json
import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

logger = logging.getLogger(__name__)

_EPILOG: Final = """\
It stops on SIGTERM, SIGINT, SIGQUIT and SIGHUP: running requests may end within drain.grace, then
the agent server is stopped. A second signal cuts at once. Ends with 0, 1 when it cannot serve, 2
when settings are wrong, or the agent server's own code (upstream.on_exit: exit).

examples:
  deferred-init-proxy serve --config proxy.yaml
  OH_DEFERRED_INIT=true OH_SECRET_KEY=... deferred-init-proxy serve -- \\
      python -m openhands.agent_server --host 127.0.0.1 --port 18000
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "serve",
        help="run the proxy",
        usage="%(prog)s [--config FILE] [-- COMMAND ...]",
        description="Run the proxy in front of an agent server. Settings come from FILE, over them "
        "the environment\n(PROXY_UPSTREAM__URL, OH_DEFERRED_INIT, OH_SECRET_KEY, ...), over that "
        "the command after '--'. With\nnone of a file, a command and a PROXY_UPSTREAM... "
        "variable, the embedded sample agent is served.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML settings")
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="starts the agent server (after '--')"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    # Here, because the other commands need none of it.
    from proxy.errors import ProxyError  # noqa: PLC0415
    from proxy.log.log import Log  # noqa: PLC0415
    from proxy.server.serve import run_server  # noqa: PLC0415
    from proxy.settings import load_settings  # noqa: PLC0415

    sample = _nothing_is_named(args)
    environ = _sample_environment() if sample else os.environ
    settings = load_settings(args.config, environ, args.command or None)
    try:
        log = Log(settings.log.level, settings.log.format)
    except RuntimeError as error:  # at the limit of processes
        raise ProxyError(f"cannot log: {error}") from None
    if sample:  # to whoever forgot the command it must not look like an agent server of theirs
        logger.warning("no agent server is named: serving the embedded sample agent")
    return run_server(settings, log)


def _nothing_is_named(args: argparse.Namespace) -> bool:
    variables = (name for name, value in os.environ.items() if value.strip())  # blank: not set
    named = any(re.match(r"PROXY_UPSTREAM(__|$)", name) for name in variables)
    return not (args.config is not None or args.command or named)


def _sample_environment() -> Mapping[str, str]:
    """The environment, and under it the sample agent's settings."""
    from proxy.demo.sample import sample_settings_overrides  # noqa: PLC0415  rarely needed
    from proxy.server.starters import private_run_dir  # noqa: PLC0415  as above

    sample = {
        f"PROXY_{section}__{key}".upper(): value if isinstance(value, str) else json.dumps(value)
        for section, values in sample_settings_overrides(private_run_dir()).items()
        for key, value in values.items()
    }
    return sample | os.environ
