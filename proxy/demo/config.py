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

_SESSION_KEY: Final = "OH_SESSION_API_KEYS_"


class ConfigError(Exception):
    """A variable is set to something that cannot be meant; the value is not quoted."""


@dataclass(frozen=True)
class Config:
    session_api_keys: tuple[str, ...] = field(repr=False)  # none: open to everybody
    conversations_path: Path | None  # None: kept in memory only
    max_concurrent_runs: int
    model: str | None
    has_secret_key: bool
    has_model_key: bool

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Config:
        """Raises `ConfigError`."""
        path = environ.get("OH_CONVERSATIONS_PATH")
        return cls(
            session_api_keys=_session_keys(environ),
            conversations_path=Path(path) if path else None,
            max_concurrent_runs=_max_runs(environ.get("OH_MAX_CONCURRENT_RUNS", "10")),
            model=environ.get("LLM_MODEL"),
            has_secret_key=bool(environ.get("OH_SECRET_KEY")),
            has_model_key=bool(environ.get("LLM_API_KEY")),
        )

    def public(self) -> dict[str, Any]:
        """What an authenticated client may know: everything but the secrets."""
        return {
            "session_api_keys": len(self.session_api_keys),
            "secret_key_set": self.has_secret_key,
            "conversations_path": str(self.conversations_path) if self.conversations_path else None,
            "max_concurrent_runs": self.max_concurrent_runs,
            "llm_model": self.model,
            "llm_api_key_set": self.has_model_key,
        }


def _session_keys(environ: Mapping[str, str]) -> tuple[str, ...]:
    """In the order of their variables' numbers; a gap ends nothing."""
    found = {
        int(name.removeprefix(_SESSION_KEY)): value
        for name, value in environ.items()
        if name.startswith(_SESSION_KEY) and name.removeprefix(_SESSION_KEY).isdecimal()
    }
    for number, value in found.items():
        if not value.strip():
            raise ConfigError(f"cannot start: {_SESSION_KEY}{number} is blank")
    return tuple(found[number] for number in sorted(found))


def _max_runs(text: str) -> int:
    if text.isdecimal() and int(text):
        return int(text)
    fault = f"OH_MAX_CONCURRENT_RUNS must be a whole number from 1, is {text!r}"
    raise ConfigError(f"cannot start: {fault}")
