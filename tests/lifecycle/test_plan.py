from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from proxy.errors import InvalidFieldError
from proxy.lifecycle.contract import InitRequest, parse_init_request
from proxy.lifecycle.plan import Plan, build_plan
from proxy.lifecycle.redact import Redactor
from proxy.settings import MappingSettings, UpstreamSettings
from proxy.settings.mapping import INIT_FIELDS
from proxy.settings.reading.mapcheck import check_mapping

RUN_DIR = "/run/agent"

FULL: dict[str, Any] = {
    "session_api_keys": ["session-1", "session-2"],
    "secret_key": "encryption",
    "previous_secret_keys": ["older", "oldest"],
    "conversations_path": "/mnt/conversations",
    "bash_events_dir": "/mnt/bash",
    "conversation_worktree_root": "/mnt/worktrees",
    "env": {"LLM_API_KEY": "sk-1"},
    "webhooks": [{"base_url": "https://hook.test", "headers": {"X-Key": "hook-header"}}],
    "web_url": "https://app.test/runtime/7",
    "allow_cors_origins": ["https://app.test"],
    "max_concurrent_runs": 3,
    "telemetry": {"exporter": "http", "http_token": "telemetry-token"},
}


def plan(fields: dict[str, Any] | None = None, **upstream: Any) -> Plan:
    request = parse_init_request(json.dumps(fields or {}).encode())
    return build_plan(UpstreamSettings(**upstream), request, run_dir=RUN_DIR)


def refused(fields: dict[str, Any], **upstream: Any) -> list[str]:
    with pytest.raises(InvalidFieldError) as caught:
        plan(fields, **upstream)
    prefix = "cannot accept the init request: "
    assert str(caught.value).startswith(prefix)
    return str(caught.value).removeprefix(prefix).split("; ")


def written(made: Plan) -> Any:
    (file,) = made.files
    return json.loads(file.content)


def test_openhands_gets_every_field_in_its_own_variables() -> None:
    made = plan(FULL)
    webhooks = json.loads(made.env.pop("OH_WEBHOOKS"))
    assert webhooks == FULL["webhooks"]
    assert json.loads(made.env.pop("OH_TELEMETRY")) == FULL["telemetry"]
    assert made.env == {
        "LLM_API_KEY": "sk-1",
        "OH_SESSION_API_KEYS_0": "session-1",
        "OH_SESSION_API_KEYS_1": "session-2",
        "OH_SECRET_KEY": "encryption",
        "OH_PREVIOUS_SECRET_KEYS_0": "older",
        "OH_PREVIOUS_SECRET_KEYS_1": "oldest",
        "OH_CONVERSATIONS_PATH": "/mnt/conversations",
        "OH_BASH_EVENTS_DIR": "/mnt/bash",
        "OH_CONVERSATION_WORKTREE_ROOT": "/mnt/worktrees",
        "OH_WEB_URL": "https://app.test/runtime/7",
        "OH_ALLOW_CORS_ORIGINS_0": "https://app.test",
        "OH_MAX_CONCURRENT_RUNS": "3",
        "OPENHANDS_AGENT_SERVER_CONFIG_PATH": f"{RUN_DIR}/openhands_agent_server_config.json",
    }


def test_openhands_gets_every_field_in_its_configuration_file() -> None:
    made = plan(FULL)
    (file,) = made.files
    assert file.path == f"{RUN_DIR}/openhands_agent_server_config.json"
    assert file.mode == 0o600
    without_env = {name: value for name, value in FULL.items() if name != "env"}
    assert written(made) == without_env | {"deferred_init": False}


def test_openhands_maps_every_field_by_the_rules_for_any_mapping() -> None:
    mapping = UpstreamSettings().fields_and_files
    assert {*mapping.fields, "env"} == set(InitRequest.model_fields) == set(INIT_FIELDS)
    assert list(check_mapping(mapping)) == []


def test_the_pods_own_openhands_configuration_lies_under_ours() -> None:
    (file,) = plan().files
    assert file.base_file == (
        "${OPENHANDS_AGENT_SERVER_CONFIG_PATH:-workspace/openhands_agent_server_config.json}"
    )


def test_an_empty_request_delivers_nothing_but_the_end_of_deferral() -> None:
    made = plan()
    assert set(made.env) == {"OPENHANDS_AGENT_SERVER_CONFIG_PATH"}
    assert made.unset == ()
    assert made.secrets == frozenset()
    assert written(made) == {"deferred_init": False}


def test_the_secret_key_defaults_to_the_first_session_key() -> None:
    made = plan({"session_api_keys": ["first", "second"]})
    assert made.env["OH_SECRET_KEY"] == written(made)["secret_key"] == "first"
    made = plan({"session_api_keys": ["first"], "secret_key": " "})
    assert made.env["OH_SECRET_KEY"] == "first"
    assert "OH_SECRET_KEY" not in plan({"previous_secret_keys": ["old"]}).env


def test_the_deployments_own_secret_key_for_the_upstream_is_no_default_to_replace() -> None:
    made = plan({"session_api_keys": ["first"]}, env={"OH_SECRET_KEY": "deployed"})
    assert "OH_SECRET_KEY" not in made.env
    assert made.base_env["OH_SECRET_KEY"] == "deployed"
    made = plan({"secret_key": "user"}, env={"OH_SECRET_KEY": "deployed"})
    assert made.env["OH_SECRET_KEY"] == "user"


def test_the_proxys_own_variables_never_reach_the_upstream() -> None:
    made = plan(deny_env=["AWS_*"])
    assert made.base_unset == ("AWS_*", "OH_SECRET_KEY", "OH_DEFERRED_INIT", "PROXY_*")


def test_inherited_variables_that_would_override_a_delivered_field_are_removed() -> None:
    unset = plan({"session_api_keys": ["k"], "webhooks": [], "telemetry": {}}).unset
    assert {
        "OH_SESSION_API_KEYS",
        "OH_SESSION_API_KEYS_[0-9]*",
        "SESSION_API_KEY",
        "OH_WEBHOOKS_[0-9]*",
        "OH_TELEMETRY_EXPORTER",
        "OH_TELEMETRY_HTTP_*",
    } <= set(unset)


@pytest.mark.parametrize(
    "name",
    [
        "OH_TELEMETRY_CONSENT",
        "OH_TELEMETRY_CONSENT_MODE",
        "OH_ALLOW_CORS_ORIGIN_REGEX",
        "OH_CONVERSATIONS_PATH_EXTRA",
        "OH_BASH_EVENTS_RETENTION_SECONDS",
        "OH_SESSION_API_KEYS_FILE",
        "LLM_API_KEY",
    ],
)
def test_unrelated_variables_are_left_alone(name: str) -> None:
    made = plan(FULL)
    assert not [pattern for pattern in made.unset if fnmatchcase(name, pattern)]
    assert plan({"env": {name: "mine"}}).env[name] == "mine"


def test_an_empty_list_replaces_what_the_pod_had() -> None:
    made = plan({"allow_cors_origins": [], "previous_secret_keys": [], "webhooks": []})
    assert "OH_ALLOW_CORS_ORIGINS_[0-9]*" in made.unset
    assert "OH_PREVIOUS_SECRET_KEYS_[0-9]*" in made.unset
    assert made.env["OH_WEBHOOKS"] == "[]"
    assert written(made) == {
        "deferred_init": False,
        "previous_secret_keys": [],
        "webhooks": [],
        "allow_cors_origins": [],
    }


def test_no_session_keys_leave_the_pods_own_in_force() -> None:
    assert plan({"session_api_keys": []}).unset == ()


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("OH_SESSION_API_KEYS_0", "cannot be set here, only as session_api_keys"),
        ("OH_SESSION_API_KEYS_17", "cannot be set here, only as session_api_keys"),
        ("OH_SESSION_API_KEYS", "cannot be set here, only as session_api_keys"),
        ("SESSION_API_KEY", "cannot be set here, only as session_api_keys"),
        ("OH_SECRET_KEY", "cannot be set here, only as secret_key"),
        ("OH_WEBHOOKS_0_BASE_URL", "cannot be set here, only as webhooks"),
        ("OH_TELEMETRY_EXPORTER", "cannot be set here, only as telemetry"),
        ("OH_DEFERRED_INIT", "is reserved for the proxy"),
        ("PROXY_UPSTREAM__URL", "is reserved for the proxy"),
        ("OPENHANDS_AGENT_SERVER_CONFIG_PATH", "is set by the proxy"),
    ],
)
def test_a_variable_that_the_proxy_sets_is_refused_by_name(name: str, fault: str) -> None:
    given = {
        "session_api_keys": ["s"],
        "secret_key": "k",
        "webhooks": [],
        "telemetry": {},
        "env": {"FINE": "x", name: "hush"},
    }
    assert refused(given) == [f"env.{name}: {fault}"]


@pytest.mark.parametrize(
    "name", ["OH_SESSION_API_KEYS_0", "SESSION_API_KEY", "OH_SECRET_KEY", "OH_WEB_URL"]
)
def test_a_variable_stands_for_a_field_that_is_not_given(name: str) -> None:
    made = plan({"env": {name: "a-value"}})
    assert made.env[name] == "a-value"
    assert made.unset == ()


def test_a_secret_key_by_its_variable_is_not_replaced_by_a_session_key() -> None:
    made = plan({"session_api_keys": ["session"], "env": {"OH_SECRET_KEY": "a-secret"}})
    assert made.env["OH_SECRET_KEY"] == "a-secret"


def test_the_proxys_own_variables_are_refused_under_any_profile() -> None:
    names = {"OH_SECRET_KEY": "x", "OH_DEFERRED_INIT": "x", "PROXY_LOG__LEVEL": "x", "OK": "x"}
    assert refused({"env": names}, profile="none") == [
        f"env.{name}: is reserved for the proxy" for name in names if name != "OK"
    ]


def test_a_field_without_a_mapping_is_refused() -> None:
    mapping = MappingSettings.model_validate({"fields": {"secret_key": {"env": "APP_KEY"}}})
    fields = {"secret_key": "k", "web_url": "http://x", "max_concurrent_runs": 2, "env": {"A": "b"}}
    assert refused(fields, profile="none", mapping=mapping) == [
        "web_url: not mapped for this upstream",
        "max_concurrent_runs: not mapped for this upstream",
    ]


def test_a_server_of_another_make_gets_what_its_mapping_says() -> None:
    mapping = MappingSettings.model_validate(
        {
            "fields": {
                "session_api_keys": {"env": "APP_TOKENS", "encode": "comma"},
                "conversations_path": {"file": "conf", "key": "storage.dir", "env": "APP_DIR"},
                "max_concurrent_runs": {"file": "conf", "key": "storage.workers"},
            },
            "files": {"conf": {"path": "{run_dir}/app.json", "env": "APP_CONF", "mode": "0640"}},
        }
    )
    made = plan(
        {
            "session_api_keys": ["a", "b"],
            "conversations_path": "/mnt/c",
            "max_concurrent_runs": 4,
            "env": {"LLM": "x"},
        },
        profile="none",
        mapping=mapping,
        command=["app", "--serve"],
        cwd="/srv",
        env={"APP_MODE": "pod"},
    )
    assert made.argv == ("app", "--serve")
    assert made.cwd == "/srv"
    assert made.base_env == {"APP_MODE": "pod"}
    assert made.env == {
        "LLM": "x",
        "APP_TOKENS": "a,b",
        "APP_DIR": "/mnt/c",
        "APP_CONF": f"{RUN_DIR}/app.json",
    }
    assert written(made) == {"storage": {"dir": "/mnt/c", "workers": 4}}
    assert made.files[0].mode == 0o640
    assert set(made.unset) == {"APP_TOKENS", "APP_DIR"}


def test_no_value_is_in_the_repr() -> None:
    shown = repr(plan(FULL)) + repr(plan(FULL).files)
    values = ["session-1", "encryption", "older", "sk-1", "hook", "/mnt", "app.test", "telemetry-t"]
    assert not [value for value in values if value in shown]
    assert "OH_SESSION_API_KEYS_0" in shown
    assert "LLM_API_KEY" in shown


def test_every_delivered_credential_is_masked() -> None:
    secrets = plan(FULL).secrets
    assert {
        *("session-1", "session-2", "encryption", "older", "oldest"),
        *("sk-1", "hook-header", "telemetry-token", "https://hook.test"),
    } <= secrets


def test_ordinary_words_are_not_masked() -> None:
    env = {"DEBUG": "true", "WORKERS": "1", "USE_TOKENS": "1", "HOME": "/root", "E": ""}
    assert plan({"env": env, "max_concurrent_runs": 3}).secrets == frozenset()


def test_a_session_key_is_masked_however_short() -> None:
    assert {"k"} == plan({"session_api_keys": ["k"]}).secrets


def test_the_spellings_of_a_secret_in_json_and_python_are_masked() -> None:
    secret = 'pass"word\n\N{SNOWMAN}'
    secrets = plan({"env": {"DB_PASSWORD": secret}}).secrets
    assert Redactor(secrets)(json.dumps({"a": secret})) == '{"a": "***"}'
    assert Redactor(secrets)(repr([secret])) in {"['***']", '["***"]'}
    assert plan(
        {"webhooks": [{"base_url": "u", "headers": {"A": "Bearer topsecret"}}]}
    ).secrets >= {"topsecret"}


@pytest.mark.parametrize("size", [131_071 - len("LARGE="), 131_072 - len("LARGE="), 200_000])
def test_a_variable_that_no_program_can_be_started_with_is_refused_by_name(size: int) -> None:
    body = {"env": {"LARGE": "é" + "x" * (size - 2), "SMALL": "x"}}
    if size < 131_072 - len("LARGE="):
        assert plan(body).env["SMALL"] == "x"
        return
    with pytest.raises(InvalidFieldError) as caught:
        plan(body)
    assert "env.LARGE: is too long: " in str(caught.value)
    assert "SMALL" not in str(caught.value)
    assert "xxx" not in str(caught.value)


def test_a_field_that_becomes_too_long_a_variable_is_refused() -> None:
    with pytest.raises(InvalidFieldError, match="OH_WEB_URL: is too long"):
        plan({"web_url": "https://agent.test/" + "x" * 200_000})
