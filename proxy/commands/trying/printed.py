"""The settings file that `try` prints: what it has found, and what only its reader knows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from proxy.commands.trying.claim import Claim
    from proxy.commands.trying.look import Found

_MAPPING = """\
  # Which fields of an init the server is told, and how; `env` always reaches its environment. Its
  # own key, say, from the variable API_KEY, and its data's place from an argument or a file: see
  # docs/how-to/server-of-your-own.md.
  # mapping:
  #   fields:
  #     session_api_keys: {env: API_KEY, encode: comma}
"""


def settings_of(argv: Sequence[str], found: Found, url: str) -> dict[str, Any]:
    """What the server needs of a settings file."""
    ready: dict[str, Any] = {"path": found.path}
    if found.path is not None and found.status != 200:
        ready["statuses"] = [found.status]
    profile = "openhands" if "openhands.agent_server" in argv else "none"
    return {"url": url, "command": list(argv), "ready": ready, "profile": profile}


def printed(upstream: dict[str, Any], found: Found, cold: Claim, warm: Claim) -> str:
    """YAML, with comments."""
    lines = [
        "# Found by `deferred-init-proxy try`; the key of the pool comes from OH_SECRET_KEY.",
        "deferred_init: true",
    ]
    if upstream["profile"] == "none":
        lines += [
            "# For a server without authentication of its own: ask for a delivered session key.",
            "# gate: {session_keys: enforce}",
        ]
    lines.append("upstream:")
    if found.listener.exposed:
        lines += [
            f"  # It listens at {found.listener.host}, where others can go around the proxy: tell",
            "  # it to listen at 127.0.0.1.",
        ]
    lines += [f"  url: {upstream['url']}", f"  command: {json.dumps(upstream['command'])}"]
    lines += [f"  # {_readiness(found)}", f"  ready: {json.dumps(upstream['ready'])}"]
    lines += [f"  # {line}" for line in _times(found, cold, warm)]
    lines.append(f"  dormancy: {'cold' if warm.kind == 'cold' else 'auto'}")
    lines.append(f"  profile: {upstream['profile']}")
    text = "\n".join(lines) + "\n"
    return text if upstream["profile"] != "none" else text + _MAPPING


def _readiness(found: Found) -> str:
    if found.path is None:
        return "None of the usual paths is there, so a connection is enough; is there a better one?"
    if found.status != 200:
        return f"The best that it answers without a key is {found.status}; is there a better path?"
    return "The first of the usual paths that answered."


def _times(found: Found, cold: Claim, warm: Claim) -> list[str]:
    count = found.listener.processes
    one = "One process accepts" if count == 1 else f"{count} processes accept"
    lines = [f"{one} connections. Claimed cold in {cold.seconds:g} s."]
    if warm.kind == "cold":
        return [*lines, f"It cannot wait warm: {_line(warm.why or 'unknown')}"]
    how = "in a dormant mode of its own" if warm.kind == "native" else "with its modules imported"
    lines.append(
        f"Claimed in {warm.seconds:g} s when it waits {how}, after {warm.waited:g} s of warming."
    )
    return lines


def _line(text: str) -> str:
    return " ".join(text.split())
