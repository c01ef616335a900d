"""`record`: find out what can be preloaded, and write it to a plan file."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from proxy.settings import UpstreamSettings

# What is left out matters from this part of all modules on.
_MATTERS: Final = 1 / 10
OUTPUT = "preload-plan.json"
_EPILOG: Final = """\
Best run where the image is built: a plan is for one interpreter and one set of packages. What is
left out is shown with what it reads: a variable of the upstream's that makes it read less gives a
better plan.

example:
  LITELLM_LOCAL_MODEL_COST_MAP=True deferred-init-proxy record --output preload-plan.json -- \\
      python -m openhands.agent_server --host 127.0.0.1 --port 18000
"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "record",
        help="make a preload plan",
        usage="%(prog)s [--config FILE] [--output FILE] [--may-deliver NAME] [-- COMMAND ...]",
        description="Run the upstream once, find out which of its modules can be imported before "
        "an init without\nreading what an init may deliver, and write the list to FILE for "
        "upstream.preload.plan. Settings are\nread as 'serve' reads them; the upstream must be "
        "able to start with them alone, on its own port.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", type=Path, metavar="FILE", help="YAML settings")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help=f"where the plan goes (default: upstream.preload.plan, else {OUTPUT})",
    )
    parser.add_argument(
        "--may-deliver",
        action="append",
        default=[],
        metavar="NAME",
        help="one more variable that inits will deliver in 'env'; patterns are allowed",
    )
    parser.add_argument(
        "command", nargs="*", metavar="COMMAND", help="starts the agent server (after '--')"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from proxy.settings import load_settings  # noqa: PLC0415  the other commands need none

    upstream = load_settings(args.config, os.environ, args.command or None).upstream
    output = args.output or Path(upstream.preload.plan or OUTPUT)
    plan = asyncio.run(_recorded(upstream, args.may_deliver))
    _write(plan, output.absolute())
    say_struck(plan)
    print(f"{output}: {len(plan['modules'])} modules")  # noqa: T201  the command's answer
    return 0


async def _recorded(upstream: UpstreamSettings, may_deliver: list[str]) -> dict[str, Any]:
    """The plan. Raises `LauncherError`."""
    from proxy.activation.launched.preloading import recording_terms  # noqa: PLC0415
    from proxy.activation.launched.recording import record  # noqa: PLC0415

    terms = recording_terms(upstream)
    terms["names"] = sorted({*terms["names"], *may_deliver})
    return await record(upstream, os.environ, terms, _say)


def _write(plan: dict[str, Any], output: Path) -> None:
    """All or nothing. Raises `ProxyError`."""
    import json  # noqa: PLC0415

    from proxy.errors import ProxyError  # noqa: PLC0415

    temporary = output.with_name(f"{output.name}.{os.getpid()}.tmp")
    try:
        temporary.write_text(json.dumps(plan, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        temporary.replace(output)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ProxyError(f"cannot write {output}: {error.strerror}") from None


def say_struck(plan: dict[str, Any]) -> None:
    """What reads what an init may deliver, the dearest first; who follows it is in the plan."""
    from proxy.launcher.record.planfile import WORTH_A_WORD, cause, leader  # noqa: PLC0415

    struck: dict[str, str] = plan["struck"]
    followers = dict.fromkeys((name for name in struck if leader(struck[name]) is None), 0)
    for name in struck:
        root = cause(name, struck)
        if root != name and root in followers:
            followers[root] += 1
    total = len(struck) + len(plan["modules"])
    if len(struck) > total * _MATTERS:
        _say(f"warning: {len(struck)} of {total} modules are left out: every start imports them")
    costs: dict[str, float] = plan.get("costs", {})
    for module in sorted(followers, key=lambda name: (-costs.get(name, 0), -followers[name], name)):
        count, seconds = followers[module], costs.get(module, 0)
        also = f", and {count} that import or need it" if count else ""
        took = f": {seconds:.1f} s of every start" if seconds >= WORTH_A_WORD else ""
        _say(f"left out: {module} ({struck[module]}){also}{took}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201  progress
