"""Built-in mappings: what `upstream.profile` stands for. Data only, like any `upstream.mapping`.

`openhands` fits every release of the OpenHands agent server since 1.0.0. All of them read
`OH_<FIELD>` variables (`agent_server/env_parser.py`: a list as `OH_<FIELD>_0`, `_1`, … or as JSON
in `OH_<FIELD>`, an object as JSON there, each overridable by `OH_<FIELD>_<PART>`); a variable that
a release does not know does nothing. Newer ones (1.58 for one) also read a JSON file, under the
variables. A field goes into both, and whatever the pod had for it is removed, because two lists of
different length from the file and from the environment stop the server.

The pod's own configuration file (`OPENHANDS_AGENT_SERVER_CONFIG_PATH`, or the server's default
beside its working directory) lies under ours, so that nothing else it sets is lost.
"""

from __future__ import annotations

from typing import Final

from proxy.settings.mapping import (
    FieldMapping,
    FileMapping,
    MappingSettings,
    NativeSettings,
)

_FILE: Final = "config"


def _text(name: str, *also_unset: str) -> FieldMapping:
    # NAME_IS_NONE=1 is how a deployment says null.
    return FieldMapping(env=name, file=_FILE, unset=(f"{name}_IS_NONE", *also_unset))


def _list(name: str, *also_unset: str) -> FieldMapping:
    return FieldMapping(env=name, encode="indexed", file=_FILE, unset=also_unset)


def _json(name: str, *parts: str) -> FieldMapping:
    return FieldMapping(
        env=name, encode="json", file=_FILE, unset=tuple(f"{name}_{part}" for part in parts)
    )


OPENHANDS: Final = MappingSettings(
    fields={
        # SESSION_API_KEY is the older name of the first key, and would be a second key.
        "session_api_keys": _list("OH_SESSION_API_KEYS", "SESSION_API_KEY"),
        "secret_key": _text("OH_SECRET_KEY"),
        "previous_secret_keys": _list("OH_PREVIOUS_SECRET_KEYS"),
        "conversations_path": _text("OH_CONVERSATIONS_PATH"),
        "bash_events_dir": _text("OH_BASH_EVENTS_DIR"),
        "conversation_worktree_root": _text("OH_CONVERSATION_WORKTREE_ROOT"),
        "webhooks": _json("OH_WEBHOOKS", "[0-9]*"),
        "web_url": _text("OH_WEB_URL"),
        "allow_cors_origins": _list("OH_ALLOW_CORS_ORIGINS"),
        "max_concurrent_runs": _text("OH_MAX_CONCURRENT_RUNS"),
        # Its parts by name: OH_TELEMETRY_CONSENT and _CONSENT_MODE are the user's, no part of it.
        "telemetry": _json(
            "OH_TELEMETRY",
            *("DEPLOYMENT_KIND", "EXPORTER", "POSTHOG_*", "HTTP_*", "SALT*", "MAX_QUEUE_SIZE"),
            *("EVENT_BUFFER_SIZE", "FLUSH_DELAY", "NUM_RETRIES", "RETRY_DELAY"),
        ),
    },
    files={
        _FILE: FileMapping(
            path="{run_dir}/openhands_agent_server_config.json",
            format="json",
            mode="0600",
            env="OPENHANDS_AGENT_SERVER_CONFIG_PATH",
            # Behind us the server has been initialized already.
            base={"deferred_init": False},
            base_file="${OPENHANDS_AGENT_SERVER_CONFIG_PATH:-workspace/openhands_agent_server_config.json}",
        )
    },
    alive_paths=("/alive",),
    # Since 1.29.0 (`agent_server/init_router.py`). What it answers while dormant is what it leaves
    # open itself, less what is ours.
    native=NativeSettings(
        switch={"OH_DEFERRED_INIT": "true"},
        key_env="OH_SECRET_KEY",
        module="openhands.agent_server.init_router",
        # Its configuration, and what its packages read at their import and nowhere else.
        at_boot=(
            *("OH_*", "SESSION_API_KEY", "OPENHANDS_*", "LOG_*", "DEBUG", "DEBUG_LLM", "CI"),
            *("GITHUB_ACTIONS", "EXTENSIONS_REF", "ACP_*", "LITELLM_*", "TMUX_TMPDIR"),
            # Clients made at import keep their proxies.
            *("*_PROXY", "*_proxy"),
            *("HOME", "PATH", "TMPDIR", "XDG_*", "PLAYWRIGHT_BROWSERS_PATH", "BROWSER_USE_*"),
        ),
        guarded="/api/conversations/count",
        token={"/api/vscode/url": "tkn="},
        open_paths=("/server_info", "/", "/docs", "/redoc", "/openapi.json"),
    ),
)
