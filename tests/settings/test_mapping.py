"""What a mapping may say, and what is refused before any init request comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from proxy.errors import SettingsError
from proxy.settings import UpstreamSettings, load_settings
from proxy.settings.profiles import OPENHANDS
from proxy.settings.reading.mapcheck import check_mapping

if TYPE_CHECKING:
    from pathlib import Path

HEAD = "upstream:\n  profile: none\n  mapping:\n"
FILE = "    files: {f: {path: /etc/f}}\n"


def faults_of(mapping: str, directory: Path, *, deferred: bool = False) -> list[str]:
    file = directory / "proxy.yaml"
    file.write_text(HEAD + mapping)
    pool = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": "k"} if deferred else {}
    try:
        load_settings(file, pool)
    except SettingsError as error:
        return [fault.removeprefix("upstream.mapping.") for fault in error.faults]
    return []


def fields(inner: str) -> str:
    return f"    fields: {{{inner}}}\n"


@pytest.mark.parametrize(
    "mapping",
    [
        fields("web_url: {env: URL}"),
        fields("web_url: {env: URL, file: f}") + FILE,
        fields("session_api_keys: {env: K, encode: comma, file: f, key: a.b}") + FILE,
        fields("session_api_keys: {file: f}, webhooks: {file: f}, telemetry: {file: f}") + FILE,
        fields("webhooks: {env: W, encode: json, unset: ['W_*']}"),
        fields("max_concurrent_runs: {env: N}"),
        fields("env: {file: d}, web_url: {file: d, key: URL}")
        + "    files: {d: {path: '{run_dir}/d', format: dotenv, mode: 0640, base: {A: x}}}\n",
        fields("model: {type: string, env: M, required: true, also: [{env: N}, {file: f}]}") + FILE,
        fields("pin: {type: secret, generate: true}, secret_key: {}")
        + "    variables: {V: '{pin}-{secret_key:-none}-{env.X}'}\n",
        fields("web_url: {file: f, key: a.b}")
        + "    files: {f: {path: /f, format: ini, base: {a: {c: 1}}, values: {a.d: '{env.X}'}}}\n",
        "    files: {f: {path: /f, format: raw, content: '{env.X:-}'}}\n",
        "    files: {f: {path: /f, base: {a: [1, null, {b: 0.5}]}, base_file: '${F:-d/f.json}'}}\n",
    ],
)
def test_a_good_mapping(mapping: str, tmp_path: Path) -> None:
    assert faults_of(mapping, tmp_path, deferred=True) == []


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (fields("web_ulr: {env: A}"), "fields.web_ulr: is no field of the init request; did you"),
        (fields("web_url: {}"), "fields.web_url: goes nowhere; give env, file, or both"),
        (fields("web_url: {env: 'A=B'}"), "fields.web_url.env: cannot be 'A=B': the name of a va"),
        (fields("web_url: {env: A, key: k}"), "fields.web_url.key: is a place in a file, and no"),
        (fields("web_url: {file: g}") + FILE, "fields.web_url.file: no file 'g' is under mapping"),
        (fields("web_url: {file: f, key: a..b}") + FILE, "fields.web_url.key: has an empty part"),
        (fields("web_url: {env: A, encode: comma}"), "fields.web_url.encode: cannot be comma for"),
        (fields("web_url: {env: A, encode: csv}"), "fields.web_url.encode: must be 'text', 'json"),
        (
            fields("session_api_keys: {env: A}"),
            "fields.session_api_keys.encode: cannot be text for session_api_keys; must be one of j",
        ),
        (fields("webhooks: {env: A, encode: lines}"), "fields.webhooks.encode: cannot be lines fo"),
        (
            fields("allow_cors_origins: {file: d}")
            + "    files: {d: {path: /d, format: dotenv}}\n",
            "fields.allow_cors_origins.encode: cannot be text",
        ),
        (
            fields("web_url: {file: d, key: a.b}") + "    files: {d: {path: /d, format: dotenv}}\n",
            "fields.web_url.key: must be a plain variable name in a dotenv file",
        ),
        (fields("env: {file: f}") + FILE, "fields.env.file: must be a file of format dotenv"),
        (
            fields("env: {file: d, env: A}") + "    files: {d: {path: /d, format: dotenv}}\n",
            "fields.env.env: cannot be given: the variables have names of their own",
        ),
        (
            fields("web_url: {env: A}, secret_key: {env: A}"),
            "fields.secret_key.env: A is set by fields.web_url.env already",
        ),
        (
            fields("web_url: {env: A_0}, session_api_keys: {env: A, encode: indexed}"),
            "fields.session_api_keys.env: A is set by fields.web_url.env already",
        ),
        (
            fields("session_api_keys: {env: A, encode: indexed}, web_url: {env: A_1}"),
            "fields.web_url.env: A_1 is set by fields.session_api_keys.env already",
        ),
        (
            fields("web_url: {file: f, key: a}, secret_key: {file: f, key: a.b}") + FILE,
            "fields.secret_key.key: a.b is written by web_url already",
        ),
        ("    files: {f: {path: f}}\n", "files.f.path: must be an absolute path to a file"),
        ("    files: {f: {path: /f/}}\n", "files.f.path: must be an absolute path to a file"),
        ("    files: {f: {path: '{run_dir}/../f'}}\n", "files.f.path: cannot have .. in it"),
        ("    files: {f: {path: '/x/{run_dir}'}}\n", "files.f.path: has braces; the only place"),
        ("    files: {f: {path: '{rundir}/x'}}\n", "files.f.path: has braces; the only placehol"),
        ("    files: {f: {format: json}}\n", "files.f.path: is missing"),
        ("    files: {f: {path: /f, format: xml}}\n", "files.f.format: must be 'json', 'yaml',"),
        ("    files: {f: {path: /f, mode: 600}}\n", "files.f.mode: cannot be 600: must be three o"),
        ("    files: {f: {path: /f, mode: '0200'}}\n", "files.f.mode: cannot be '0200': the owne"),
        ("    files: {f: {path: /f, mode: '7777'}}\n", "files.f.mode: cannot be '7777': must be"),
        ("    files: {f: {path: /f, base: {a: .nan}}}\n", "files.f.base.a: has a number that is"),
        ("    files: {f: {path: /f, base: 5}}\n", "files.f.base: must be a mapping of keys to va"),
        (
            "    files: {f: {path: /f, format: dotenv, base: {A: 5}}}\n",
            "files.f.base.A: must be text in a dotenv file",
        ),
        (
            "    files: {f: {path: /f, format: yaml, base_file: /b}}\n",
            "files.f.base_file: cannot be given with format: yaml",
        ),
        (
            "    files: {f: {path: /f, base_file: '${F}'}}\n",
            "files.f.base_file: must be a path, or ${NAME:-path}",
        ),
        (
            "    files: {f: {path: /f, env: A}, g: {path: /g, env: A}}\n",
            "files.g.env: A is set by files.f.env already",
        ),
        ("    files: {f: {path: /f}, g: {path: /f}}\n", "files.g.path: is the path of f already"),
    ],
)
def test_a_bad_mapping(mapping: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(mapping, tmp_path)
    assert len(faults) == 1, faults
    assert faults[0].startswith(expected), faults[0]


def test_the_built_in_profile_keeps_the_rules() -> None:
    assert list(check_mapping(OPENHANDS)) == []


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (fields("Model: {type: string, env: M}"), "fields.Model: must be a name of small letters"),
        (fields("web_url: {type: string, env: M}"), "fields.web_url.type: cannot be given"),
        (fields("a: {env: M}"), "fields.a: is no field of the init request; give the `type`"),
        (fields("a: {type: text, env: M}"), "fields.a.type: must be 'string', 'list', 'secret'"),
        (fields("a: {type: list, env: M}"), "fields.a.encode: cannot be text for a; must be one"),
        (
            fields("a: {type: list, generate: true, env: M, encode: json}"),
            "fields.a.generate: makes",
        ),
        (fields("a: {type: path, generate: true, env: M}"), "fields.a.generate: makes a text"),
        (
            fields("a: {type: secret, generate: true, required: true, env: M}"),
            "fields.a.required: cannot be given with generate",
        ),
        (fields("a: {type: string, env: M, also: [{}]}"), "fields.a.also[0]: goes nowhere"),
        (
            fields("a: {type: string, env: M, also: [{env: M}]}"),
            "fields.a.also[0].env: M is set by fields.a.env already",
        ),
        (
            fields("a: {type: string, env: M}") + "    variables: {M: '{a}'}\n",
            "variables.M: M is set by fields.a.env already",
        ),
        (
            fields("a: {type: string, file: f}") + "    files: {f: {path: /f, values: {a: x}}}\n",
            "files.f.values.a: a is written by a already",
        ),
        (
            "    variables: {M: '{secret_kye}'}\n",
            "variables.M: has a place for secret_kye, which is",
        ),
        (
            fields("secret_key: {env: K}") + "    variables: {M: '{secret_kye}'}\n",
            "variables.M: has a place for secret_kye, which is no mapped field; did you mean",
        ),
        (
            fields("secret_key: {env: K}") + "    variables: {M: '{secret_key[0]}'}\n",
            "variables.M: has a place for secret_key[0], and secret_key is no list of texts",
        ),
        ("    variables: {M: 1}\n", "variables.M: must be a template, as text"),
        ("    files: {f: {path: /f, format: raw}}\n", "files.f.content: is not set"),
        ("    files: {f: {path: /f, content: x}}\n", "files.f.content: is for format: raw alone"),
        (
            "    files: {f: {path: /f, format: raw, content: x, base: {a: 1}}}\n",
            "files.f.base: has no effect with format: raw",
        ),
        (
            fields("web_url: {file: f}") + "    files: {f: {path: /f, format: raw, content: x}}\n",
            "fields.web_url.file: is raw; write {web_url} into its `content`",
        ),
        (
            fields("web_url: {file: f}") + "    files: {f: {path: /f, format: ini}}\n",
            "fields.web_url.key: must be section.name in an ini file",
        ),
        (
            "    files: {f: {path: /f, format: ini, base: {a: 1}}}\n",
            "files.f.base.a: must be a section of values in an ini file",
        ),
        (
            "    files: {f: {path: /f, format: ini, base: {a: {b: [1]}}}}\n",
            "files.f.base.a.b: must be a plain value in an ini file",
        ),
        (
            "    files: {f: {path: /f, format: toml, base: {a: [null]}}}\n",
            "files.f.base.a: has a null, for which toml has no word",
        ),
        (
            "    files: {f: {path: /f, values: {a..b: x}}}\n",
            "files.f.values['a..b']: has an empty part",
        ),
    ],
)
def test_a_bad_field_template_or_file(mapping: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(mapping, tmp_path, deferred=True)
    assert len(faults) == 1, faults
    assert faults[0].startswith(expected), faults


@pytest.mark.parametrize(
    ("mapping", "expected"),
    [
        (
            fields("web_url: {env: U, required: true}"),
            "fields.web_url.required: cannot be met with",
        ),
        ("    variables: {M: '{env.X}'}\n", "variables.M: needs env.X, and without deferred_init"),
    ],
)
def test_without_deferred_init_nothing_can_be_needed(
    mapping: str, expected: str, tmp_path: Path
) -> None:
    (fault,) = faults_of(mapping, tmp_path)
    assert fault.startswith(expected), fault


def test_what_stands_in_braces_in_a_command_is_a_field_or_doubled(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(
        "upstream: {command: [server, '{sesion_api_keys}', '{{text}}', '${x}', '{print}', '{X}']}"
    )
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {})
    (fault,) = caught.value.faults
    assert fault.startswith(
        "upstream.command[1]: has a place for sesion_api_keys, which is no mapped field; "
        "did you mean session_api_keys? (line 1)"
    )


@pytest.mark.parametrize(
    ("command", "preloads"),
    [(("python", "-m", "server"), True), (("python", "-m", "server", "{secret_key}"), False)],
)
def test_a_server_with_places_in_its_arguments_is_not_preloaded(
    command: tuple[str, ...], *, preloads: bool
) -> None:
    assert UpstreamSettings(command=command).preloads is preloads
