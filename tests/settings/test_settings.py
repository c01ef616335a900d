"""What settings say, from a file, the environment and the command line, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from proxy.errors import SettingsError
from proxy.settings import Settings, load_settings
from tests.harness import ROOT, clean_environment

if TYPE_CHECKING:
    from pathlib import Path


class Given:
    """Settings of a text, as `serve --config` would see them."""

    def __init__(self, directory: Path) -> None:
        self.file = directory / "proxy.yaml"

    def settings(
        self,
        text: str | bytes = "",
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
    ) -> Settings:
        self.file.write_bytes(text.encode() if isinstance(text, str) else text)
        return load_settings(self.file, env or {}, command)

    def faults(
        self,
        text: str | bytes = "",
        env: dict[str, str] | None = None,
        command: list[str] | None = None,
    ) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.settings(text, env, command)
        return caught.value.faults


@pytest.fixture
def given(tmp_path: Path) -> Given:
    return Given(tmp_path)


def test_nothing_at_all_is_valid_and_starts_at_once() -> None:
    settings = load_settings(None, {})
    assert settings == Settings()
    assert not settings.deferred_init
    assert settings.upstream.command[:3] == ("python", "-m", "openhands.agent_server")


def test_an_empty_file_and_empty_sections_are_the_defaults(given: Given) -> None:
    assert given.settings("") == Settings()
    assert given.settings("# nothing yet\n") == Settings()
    assert given.settings("init:\nupstream:\n  env:\n  # A: x\nlog: {}\n") == Settings()


def test_environment_is_over_the_file_and_the_command_over_both(given: Given) -> None:
    text = "upstream: {url: 'http://a:1', command: [a], cwd: /file, stop_grace: 1}\n"
    env = {"PROXY_UPSTREAM__URL": "http://b:2", "PROXY_UPSTREAM__COMMAND": '["b"]'}
    upstream = given.settings(text, env, ["c", "--port", "1"]).upstream
    assert str(upstream.url) == "http://b:2"
    assert upstream.command == ("c", "--port", "1")
    assert (upstream.cwd, upstream.stop_grace) == ("/file", 1)


def test_settings_are_frozen(given: Given) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        given.settings().init.timeout = 5  # type: ignore[misc]


# The environment


@pytest.mark.parametrize(
    ("name", "value", "path", "expected"),
    [
        ("OH_DEFERRED_INIT", "TRUE", "init.allow_without_key", False),
        ("PROXY_INIT__TIMEOUT", "7.5", "init.timeout", 7.5),
        ("PROXY_INIT__TIMEOUT", " 7 ", "init.timeout", 7),
        ("PROXY_INIT__ALLOW_WITHOUT_KEY", "yes", "init.allow_without_key", True),
        ("PROXY_UPSTREAM__CWD", "[odd]", "upstream.cwd", "[odd]"),
        ("PROXY_UPSTREAM__CWD", "", "upstream.cwd", None),
        ("PROXY_UPSTREAM__ENV", '{"A": "1"}', "upstream.env", {"A": "1"}),
        (
            "PROXY_UPSTREAM__READY__STATUSES",
            "[200, 204]",
            "upstream.ready.statuses",
            (200, 204),
        ),
        ("PROXY_UPSTREAM__READY", '{"path": "/alive"}', "upstream.ready.path", "/alive"),
        ("PROXY_UPSTREAM__PRELOAD__MODULES", "auto", "upstream.preload.modules", "auto"),
        ("PROXY_UPSTREAM__PRELOAD__MODULES", '["a.b"]', "upstream.preload.modules", ("a.b",)),
        ("PROXY_LIMITS__CONNECTIONS", "5", "limits.connections", 5),
        ("PROXY_LOG__LEVEL", "debug", "log.level", "debug"),
    ],
)
def test_every_kind_of_setting_has_a_variable(
    name: str, value: str, path: str, expected: object
) -> None:
    found: Any = load_settings(None, {name: value, "OH_SECRET_KEY": "k"})
    for part in path.split("."):
        found = getattr(found, part)
    assert found == expected


def test_the_agent_servers_own_names_work_and_ours_win() -> None:
    env = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": "theirs"}
    settings = load_settings(None, env)
    assert settings.deferred_init
    assert settings.init.key is not None
    assert settings.init.key.get_secret_value() == "theirs"
    settings = load_settings(None, env | {"PROXY_INIT__KEY": "ours", "PROXY_DEFERRED_INIT": "0"})
    assert not settings.deferred_init
    assert settings.init.key is not None
    assert settings.init.key.get_secret_value() == "ours"


def test_an_empty_variable_is_not_set_but_an_empty_key_refuses_everybody(given: Given) -> None:
    settings = given.settings("init: {key: k, timeout: 9}", {"PROXY_INIT__TIMEOUT": " "})
    assert settings.init.timeout == 9
    for name in ("OH_SECRET_KEY", "PROXY_INIT__KEY"):
        settings = given.settings("deferred_init: true\ninit: {key: k}", {name: ""})
        assert settings.init.key is not None
        assert settings.init.key.get_secret_value() == ""


def test_the_more_specific_variable_wins() -> None:
    env = {
        "PROXY_LIMITS__CONNECTIONS": "3",
        "PROXY_LIMITS": '{"connections": 2, "header_count": 9}',
    }
    limits = load_settings(None, env).limits
    assert (limits.connections, limits.header_count) == (3, 9)


@pytest.mark.parametrize(
    "name",
    [
        *("PROXY_PORT", "PROXY_PORT_8000_TCP", "PROXY_PORT_8000_TCP_ADDR", "PROXY_SERVICE_HOST"),
        *("PROXY_SERVICE_PORT", "PROXY_SERVICE_PORT_HTTP", "PROXY_INIT_PORT_80_TCP_PROTO"),
        *("PROXY_UPSTREAM_SERVICE_HOST", "PROXY_HOST", "PROXY_PASSWORD", "PROXY_GATEWAY"),
        *("HTTP_PROXY", "MY_PROXY_INIT__KEY", "proxy_init__timout", "PROXYINIT"),
    ],
)
def test_variables_of_somebody_else_are_left_alone(name: str) -> None:
    assert load_settings(None, {name: "tcp://10.0.0.1:80"}) == Settings()


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("PROXY_INIT__TIMOUT", "PROXY_INIT__TIMEOUT"),
        ("PROXY_INIT_TIMEOUT", "PROXY_INIT__TIMEOUT"),
        ("PROXY_UPSTREM__URL", "PROXY_UPSTREAM__URL"),
        ("PROXY_UPSTREAM_READY_PATH", "PROXY_UPSTREAM__READY__PATH"),
        ("PROXY_DEFERED_INIT", "PROXY_DEFERRED_INIT"),
        ("PROXY__INIT__KEY", "PROXY_INIT__KEY"),
    ],
)
def test_a_misspelt_variable_is_a_fault_with_the_right_spelling(name: str, meant: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, {name: "s3cret"})
    assert caught.value.faults == [f"{name}: unknown setting; did you mean {meant}?"]


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (
            {"PROXY_UPSTREAM__COMMAND": "python -m x"},
            (
                "PROXY_UPSTREAM__COMMAND: is not JSON at character 1; lists and "
                'mappings are given as JSON: ["a", "b"], {"A": "b"}'
            ),
        ),
        (
            {"PROXY_UPSTREAM__ENV": '{"A": "1", "A": "2"}'},
            "PROXY_UPSTREAM__ENV: has the key 'A' tw",
        ),
        ({"PROXY_UPSTREAM__ENV": "[" * 100_000}, "PROXY_UPSTREAM__ENV: is not JSON"),
        ({"PROXY_LIMITS": "5"}, "PROXY_LIMITS: must be a mapping"),
        ({"PROXY_LIMITS": '{"connections": 0}'}, "PROXY_LIMITS.connections: must be at least 1"),
        ({"PROXY_INIT": '{"kye": "s3cret"}'}, "PROXY_INIT.kye: unknown key; did you mean key?"),
        ({"PROXY_UPSTREAM__COMMAND": '["a", 5]'}, "PROXY_UPSTREAM__COMMAND[1]: must be text"),
        ({"OH_DEFERRED_INIT": "maybe"}, "OH_DEFERRED_INIT: must be true or false, not 'maybe'"),
        ({"PROXY_INIT__TIMEOUT": "soon"}, "PROXY_INIT__TIMEOUT: must be a number, not 'soon'"),
        ({"OH_DEFERRED_INIT": "\udcff"}, "OH_DEFERRED_INIT: must be valid UTF-8"),
        ({"OH_SECRET_KEY": "s3cret\n"}, "OH_SECRET_KEY: has white space around it"),
        (
            {"PROXY_UPSTREAM__CWD": "\udcff"},
            "PROXY_UPSTREAM__CWD: cannot be '\\udcff': must be valid UTF-8",
        ),
    ],
)
def test_a_fault_of_the_environment_names_the_variable(env: dict[str, str], expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(None, env)
    (fault,) = caught.value.faults
    assert fault.startswith(expected)
    assert "s3cret" not in fault
    assert fault.encode()


def test_a_bad_command_line_is_called_command(given: Given) -> None:
    assert given.faults(command=[""]) == ["COMMAND: the program's name cannot be empty"]
    assert given.faults(command=["a", "b\0"]) == ["COMMAND[1]: cannot contain NUL"]


def test_a_pod_that_is_configured_by_its_environment_does_not_import_yaml() -> None:
    script = (
        "import sys; from proxy.settings import load_settings;"
        "load_settings(None, {'PROXY_LIMITS': '{}'});"
        "print([m for m in ('yaml', 'difflib', 'pydantic_settings') if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=clean_environment(), capture_output=True,
        text=True, timeout=60, check=True,
    )  # fmt: skip
    assert run.stdout == "[]\n"


# Rules between keys


@pytest.mark.parametrize(
    ("address", "starts"),
    [
        ("0.0.0.0:8000", False),
        ("'[::]:8000'", False),
        ("10.1.2.3:8000", False),
        ("pod.local:8000", False),
        ("127.0.0.1:0", True),
        ("127.8.8.8:8000", True),
        ("localhost:8000", True),
        ("'[::1]:8000'", True),
        ("'[::ffff:127.0.0.1]:8000'", True),
        ("unix:/run/proxy.sock", True),
    ],
)
def test_without_a_key_only_a_private_listener_is_served(
    given: Given, address: str, *, starts: bool
) -> None:
    text = f"deferred_init: true\nlisten: {{address: {address}}}\n"
    if starts:
        given.settings(text)
    else:
        (fault,) = given.faults(text)
        assert fault.startswith("init.key: is not set, and whoever reaches ")
    given.settings(text.replace("true", "false"))
    given.settings(text + "init: {allow_without_key: true}\n")
    given.settings(text, {"OH_SECRET_KEY": "k"})
    given.settings(text, {"OH_SECRET_KEY": "  "})


def test_rules_between_keys_are_not_judged_by_stand_ins(given: Given) -> None:
    """A wrong listen.address must not be answered with a complaint about its default."""
    faults = given.faults("deferred_init: true\nlisten: {address: x}\nlimits: {head_size: 1}\n")
    assert [fault.partition(":")[0] for fault in faults] == ["listen.address", "limits.head_size"]


def test_a_rule_between_keys_is_reported_along_with_faults_of_single_keys(given: Given) -> None:
    faults = given.faults("deferred_init: true\ninit: {timeout: 0}\nlog: {level: loud}\n")
    assert len(faults) == 2
    faults = given.faults("deferred_init: true\nlog: {level: loud}\n")
    assert [fault.partition(":")[0] for fault in faults] == ["log.level", "init.key"]


def test_networks_are_parsed(given: Given) -> None:
    listen = given.settings("listen: {trusted_proxies: [10.0.0.0/8, '::1', 1.2.3.4]}").listen
    assert listen.trusted_proxies == (
        IPv4Network("10.0.0.0/8"), IPv6Network("::1/128"), IPv4Network("1.2.3.4/32"),
    )  # fmt: skip


def test_the_tree_survives_a_round_trip_through_json(given: Given) -> None:
    text = """
upstream:
  url: http+unix:///run/a.sock
  profile: none
  mapping:
    fields: {web_url: {env: URL, file: f, key: a.b}}
    files: {f: {path: "{run_dir}/f", mode: "0640", base: {n: [1, null]}}}
listen: {address: "[::1]:0", trusted_proxies: [10.0.0.0/8]}
"""
    settings = given.settings(text)
    assert given.settings(settings.model_dump_json()) == settings


def test_no_secret_is_in_the_settings_repr() -> None:
    settings = load_settings(None, {"OH_SECRET_KEY": "s3cret"})
    assert "s3cret" not in f"{settings!r} {settings} {settings.model_dump()}"
