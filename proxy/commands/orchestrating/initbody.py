"""The body of an init request, put together from options, files and standard input."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proxy.commands.orchestrating.envfile import parse_env_file
from proxy.errors import SettingsError
from proxy.settings.reading.environment import RepeatedKeyError, unique

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping

# As much as the proxy takes.
_MOST_BYTES: Final = 1_048_576

# Options that give one field each, of several values or one: field, option, value, help.
_LISTS: Final = (
    ("session_api_keys", "--session-api-key", "KEY", "key of the user's API calls"),
    ("previous_secret_keys", "--previous-secret-key", "KEY", "earlier secret key"),
    ("allow_cors_origins", "--allow-cors-origin", "ORIGIN", "origin that may call from a browser"),
)
_TEXTS: Final = (
    ("secret_key", "--secret-key", "KEY", "encryption secret (default: the first session key)"),
    ("conversations_path", "--conversations-path", "PATH", "where conversations are kept"),
    ("bash_events_dir", "--bash-events-dir", "PATH", "where bash events are kept"),
    (
        "conversation_worktree_root",
        "--conversation-worktree-root",
        "PATH",
        "where conversations' worktrees are",
    ),
    ("web_url", "--web-url", "URL", "the server's external URL"),
)
_SECRETS: Final = frozenset({"session_api_keys", "previous_secret_keys", "secret_key"})


def add_body_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is delivered")
    group.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="environment variable; without a value it is taken from this command's environment, "
        "where other users cannot see it (repeatable)",
    )
    group.add_argument(
        "--env-file",
        action="append",
        default=[],
        metavar="FILE",
        help="file of NAME=VALUE lines ('-': stdin; repeatable)",
    )
    group.add_argument(
        "--body", metavar="FILE", help="JSON object with any field of the request ('-': stdin)"
    )
    for field, option, metavar, text in _LISTS:
        group.add_argument(
            option, dest=field, action="append", metavar=metavar, help=f"{text} (repeatable)"
        )
    for field, option, metavar, text in _TEXTS:
        group.add_argument(option, dest=field, metavar=metavar, help=text)
    group.add_argument(
        "--max-concurrent-runs", type=int, metavar="N", help="limit of conversation steps"
    )


def build_body(args: argparse.Namespace, environ: Mapping[str, str]) -> dict[str, Any]:
    """The request. Raises `SettingsError` with every fault, which quotes no value."""
    _warn(args)
    faults: list[str] = []
    body: dict[str, Any] = {}
    for part in (_body(args.body, faults), _fields(args)):
        body |= part
    env = _environment(args, environ, faults)
    given = body.get("env")
    if env and isinstance(given, dict):
        body["env"] = given | env
    elif env:
        body["env"] = env
    if faults:
        raise SettingsError(faults)
    return body


def _warn(args: argparse.Namespace) -> None:
    seen = [
        option
        for field, option, *_ in (*_LISTS, *_TEXTS)
        if field in _SECRETS and getattr(args, field) is not None
    ]
    seen += ["--env"] if any("=" in entry for entry in args.env) else []
    if seen:
        print(  # noqa: T201  for the person at the terminal
            f"warning: other users can see {' and '.join(seen)} in the process list; "
            "--body -, --env-file and --env NAME keep values out of it",
            file=sys.stderr,
        )


def _fields(args: argparse.Namespace) -> dict[str, Any]:
    names = [field for field, *_ in (*_LISTS, *_TEXTS)] + ["max_concurrent_runs"]
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _body(file: str | None, faults: list[str]) -> dict[str, Any]:
    if file is None:
        return {}
    where = "stdin" if file == "-" else file
    try:
        found = json.loads(read_bounded(file, "--body"), object_pairs_hook=unique)
    except SettingsError as error:
        faults += error.faults
    except json.JSONDecodeError as error:
        faults.append(f"--body: {where}:{error.lineno}:{error.colno}: is not JSON")
    except RepeatedKeyError as error:
        faults.append(f"--body: {where}: {error}")
    except (ValueError, RecursionError):
        faults.append(f"--body: {where}: is nested too deeply, or has too long a number")
    else:
        if isinstance(found, dict):
            return found
        faults.append(f"--body: {where}: must be a JSON object")
    return {}


def _environment(
    args: argparse.Namespace, environ: Mapping[str, str], faults: list[str]
) -> dict[str, str]:
    env: dict[str, str] = {}
    for file in args.env_file:
        try:
            text = read_bounded(file, "--env-file")
        except SettingsError as error:
            faults += error.faults
            continue
        found, wrong = parse_env_file(text, "stdin" if file == "-" else file)
        env |= found
        faults += [f"--env-file: {fault}" for fault in wrong]
    for entry in args.env:
        name, given, value = entry.partition("=")
        if not name:
            faults.append("--env: the name of a variable is missing")
        elif given or name in environ:
            env[name] = value if given else environ[name]
        else:
            faults.append(f"--env: {name} is not set here, and no value is given")
    faults += [f"--env: {name} is not valid UTF-8" for name in _not_unicode(env)]
    return env


def _not_unicode(env: Mapping[str, str]) -> Iterator[str]:
    for name, value in env.items():
        try:
            f"{name}{value}".encode()
        except UnicodeEncodeError:
            yield ascii(name)[1:-1]


def read_bounded(file: str, option: str) -> str:
    """The text of a file, or of standard input for '-'. Raises `SettingsError`."""
    where = "stdin" if file == "-" else file
    try:
        if file == "-":
            content = sys.stdin.buffer.read(_MOST_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            raise SettingsError([f"{option}: {where} is larger than {_MOST_BYTES} bytes"])
        return content.decode()
    except UnicodeDecodeError:
        raise SettingsError([f"{option}: {where} is not UTF-8"]) from None
    except (OSError, ValueError) as error:
        cause = error.strerror if isinstance(error, OSError) else "no file has such a name"
        raise SettingsError([f"{option}: cannot read {where}: {cause}"]) from None
