"""The sample agent server's configuration: the environment, read once, when the server starts.

The names are those of the OpenHands agent server, so that `profile: openhands` drives this one.
Nothing is read at import: a fork server may preload these modules.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_MAX_RUNS: Final = 10


class ConfigError(Exception):
    """A variable is set to something that cannot be meant; the value is not quoted."""


@dataclass(frozen=True)
class Config:
    session_api_keys: tuple[str, ...] = field(default=(), repr=False)  # none: open to everybody
    secret_keys: tuple[str, ...] = field(default=(), repr=False)  # the first signs, all verify
    conversations_path: Path | None = None  # None: kept in memory only
    max_concurrent_runs: int = DEFAULT_MAX_RUNS
    model: str | None = None
    has_model_key: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Raises `ConfigError`."""
        session = _indexed(environ, "OH_SESSION_API_KEYS_")
        # The server this one stands in for signs with its first session key, if nothing else.
        signing = environ.get("OH_SECRET_KEY") or next(iter(session), None)
        previous = _indexed(environ, "OH_PREVIOUS_SECRET_KEYS_")
        path = environ.get("OH_CONVERSATIONS_PATH")
        return cls(
            session_api_keys=session,
            secret_keys=(signing, *previous) if signing else (),
            conversations_path=Path(path) if path else None,
            max_concurrent_runs=_max_runs(environ.get("OH_MAX_CONCURRENT_RUNS")),
            model=environ.get("LLM_MODEL"),
            has_model_key=bool(environ.get("LLM_API_KEY")),
        )

    def public(self) -> dict[str, Any]:
        """What an authenticated client may know: everything but the secrets."""
        return {
            "session_api_keys": len(self.session_api_keys),
            "signs_records": bool(self.secret_keys),
            "previous_secret_keys": max(len(self.secret_keys) - 1, 0),
            "conversations_path": str(self.conversations_path) if self.conversations_path else None,
            "max_concurrent_runs": self.max_concurrent_runs,
            "llm_model": self.model,
            "llm_api_key_set": self.has_model_key,
        }


def _indexed(environ: Mapping[str, str], prefix: str) -> tuple[str, ...]:
    """The values of `<prefix>0`, `<prefix>1`, … in order; a gap ends nothing."""
    found = {}
    for name, value in environ.items():
        index = name.removeprefix(prefix)
        if index == name or not (index.isascii() and index.isdigit()):
            continue
        if not value.strip():
            raise ConfigError(f"cannot start: {name} is blank")
        found[int(index)] = value
    return tuple(found[index] for index in sorted(found))


def _max_runs(text: str | None) -> int:
    if text is None:
        return DEFAULT_MAX_RUNS
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ConfigError(
            f"cannot start: OH_MAX_CONCURRENT_RUNS must be a whole number from 1, is {text!r}"
        )
    return number
