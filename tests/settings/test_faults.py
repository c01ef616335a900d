"""Whatever is wrong with a settings file is said at once, at its place, with a hint."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from proxy.errors import SettingsError
from proxy.settings import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def faults_of(content: str | bytes, directory: Path) -> list[str]:
    file = directory / "proxy.yaml"
    file.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(SettingsError) as caught:
        load_settings(file, {})
    faults = [fault.replace(str(file), "FILE") for fault in caught.value.faults]
    # In which column it gives up is the parser's affair.
    return [re.sub(r"^(FILE:\d+):\d+:", r"\1:", fault) for fault in faults]


_POOL = "deferred_init: true\ninit: {key: k}\n"

ONE_FAULT = [
    # keys
    ("timout: 3", "timout: unknown key; did you mean init.timeout or upstream.ready.timeout"),
    ("init: {timout: 3}", "init.timout: unknown key; did you mean timeout? (line 1)"),
    ("comand: [x]", "comand: unknown key; did you mean upstream.command? (line 1)"),
    ("upstream: {ready: {zzz: 1}}", "upstream.ready.zzz: unknown key (line 1)"),
    ("log: {level: info}\nlog: {}", "log: is given twice, first on line 1 (line 2)"),
    ("1: x", "FILE: has a key that is not text; write it in quotes (line 1)"),
    ("init: {[a]: x}", "init: has a key that is not text"),
    ("init: 5", "init: must be a mapping of keys to values (line 1)"),
    ("listen: {admin: 9901}", "listen.admin: cannot be 9901"),
    ("gate: {hold: -1}", "gate.hold: must be at least 0, not -1"),
    (
        "gate: {query_parameter: key}",
        "gate.query_parameter: has no effect with gate.session_keys: off",
    ),
    ("control: {prefix: -}", "control.prefix: cannot be '-': must begin with /"),
    ("control: {prefix: /-/}", "control.prefix: cannot be '/-/': must be a path without a query"),
    (
        "control: {prefix: /-}\ngate: {open_paths: [/-/ready]}",
        "gate.open_paths[0]: /-/ready is answered by the proxy in every state",
    ),
    ("gate: {query_parameter: 'a b'}", "gate.query_parameter: cannot be 'a b': must be a name of"),
    ("gate: {session_keys: enforce}", "gate.session_keys: would let nobody pass"),
    (
        _POOL + "upstream: {dormancy: standby}",
        "upstream.dormancy: cannot be standby: nothing tells the upstream of an init; describe",
    ),
    (
        "upstream: {dormancy: cold, standby: {requests: [{path: /x}]}}",
        "upstream.standby.requests: has no effect with upstream.dormancy: cold",
    ),
    (
        "upstream: {profile: none, standby: {requests: [{path: /x}]}}",
        "upstream.standby.requests: has no effect without deferred_init: nothing is delivered",
    ),
    (
        _POOL + "upstream: {standby: {requests: [{path: /x}]}}",
        "upstream.standby.requests: has no effect beside a dormant mode of the upstream's own",
    ),
    (
        _POOL + "upstream: {dormancy: standby, activation: signal, run_dir: /r, "
        "signal: {pidfile: /p}, standby: {requests: [{path: /x}]}}",
        "upstream.dormancy: cannot be standby with upstream.activation: signal",
    ),
    (
        _POOL + "upstream: {profile: none, standby: {requests: [{path: '/{provder}'}]}, "
        "mapping: {fields: {provider: {env: P, type: string}}}}",
        "upstream.standby.requests[0].path: has a place for provder, which is no mapped field",
    ),
    (
        "upstream: {rehearsal: true}",
        "upstream.rehearsal: has no effect without deferred_init: the upstream is started at once",
    ),
    (
        _POOL + "upstream: {rehearsal: true}",
        "upstream.rehearsal: has no effect on an upstream that runs while it is dormant",
    ),
    (
        _POOL + "upstream: {rehearsal: true, activation: forward}",
        "upstream.rehearsal: has no effect with upstream.activation: forward",
    ),
    (
        "upstream: {standby: {requests: [{}]}}",
        "upstream.standby.requests[0].path: is missing",
    ),
    (
        "upstream: {standby: {requests: [{path: x}]}}",
        "upstream.standby.requests[0].path: must begin with /",
    ),
    (
        "upstream: {standby: {requests: [{path: /x, method: put}]}}",
        "upstream.standby.requests[0].method: must be",
    ),
    (
        "upstream: {standby: {requests: [{path: /x, headers: {A: ' b'}}]}}",
        "upstream.standby.requests[0].headers.A: must be as on a header line",
    ),
    (
        "upstream: {standby: {requests: [{path: /x, expect: {statuses: [700]}}]}}",
        "upstream.standby.requests[0].expect.statuses[0]: must be a status from 200 to 599",
    ),
    (
        'upstream: {standby: {requests: [{path: /x, body: {a: ["\\0x"]}}]}}',
        "upstream.standby.requests[0].body: cannot contain NUL",
    ),
    (
        "upstream: {forward: {key: s3cret}}",
        "upstream.forward: has no effect with upstream.activation: spawn",
    ),
    ("upstream: {signal: {signal: SIGKILL}}", "upstream.signal.signal: cannot be 'SIGKILL'"),
    (
        "upstream: {activation: launcher, launcher: {socket: /s}}",
        "upstream.launcher.token: is not set",
    ),
    (
        "upstream: {activation: signal, run_dir: /r}",
        "upstream.signal: does not say which process gets SIGTERM",
    ),
    (
        "upstream: {activation: signal, signal: {signal: null}}",
        "upstream.run_dir: is not set, and the upstream must find its files somewhere",
    ),
    (
        "upstream: {activation: forward, dormancy: native}",
        "upstream.dormancy: cannot be native with upstream.activation: forward",
    ),
    (
        "deferred_init: true\ninit: {key: k}\nupstream: {profile: none, dormancy: native}",
        "upstream.dormancy: cannot be native: nothing tells how the upstream is started dormant",
    ),
    (
        "upstream: {dormancy: native}",
        "upstream.dormancy: cannot be native without deferred_init",
    ),
    (
        "upstream: {dormancy: preload, preload: {modules: []}}",
        "upstream.dormancy: cannot be preload: nothing is to be preloaded; leave",
    ),
    (
        "upstream: {dormancy: cold, preload: {modules: [json]}}",
        "upstream.preload: has no effect with upstream.dormancy: cold",
    ),
    (
        "upstream: {profile: none, mapping: {alive_paths: [/ready]}}",
        "upstream.mapping.alive_paths[0]: /ready is answered by the proxy in every state",
    ),
    (
        "upstream: {profile: none, mapping: {native: {switch: {}, key_env: K}}}",
        "upstream.mapping.native.switch: ",
    ),
    (
        "upstream: {activation: forward, preload: {modules: [json]}}",
        "upstream.preload: has no effect with upstream.activation: forward",
    ),
    (
        "upstream: {activation: signal, run_dir: /r, signal: {process: x}, cwd: /srv}",
        "upstream.cwd: has no effect with upstream.activation: signal",
    ),
    (
        "upstream: {activation: forward, env: {A: s3cret}}",
        "upstream.env: has no effect with upstream.activation: forward",
    ),
    (
        "upstream: {activation: forward, command: [s3cret]}",
        "upstream.command: has no effect with upstream.activation: forward",
    ),
    (
        "listen: {address: 'unix:/p.sock', trusted_proxies: [10.0.0.0/8]}",
        "listen.trusted_proxies: has no effect on a Unix socket",
    ),
    ("listen: {unix: {mode: '0660'}}", "listen.unix: has no effect"),
    ("listen: {unix: {group: -1}}", "listen.unix.group: "),
    ("listen: {unix: {mode: 660}}", "listen.unix.mode: "),
    ("gate: {cors_origins: ['https://app.test/']}", "gate.cors_origins[0]: "),
    ("upstream: {stop_signal: SIGKILL}", "upstream.stop_signal: "),
    (
        "listen: {address: '0.0.0.0:9901', admin: '127.0.0.1:9901'}",
        "listen.admin: is the address of listen.address, 0.0.0.0:9901",
    ),
    (
        "upstream: {url: 'http://127.0.0.1:9901'}",
        "listen.admin: is the address of upstream.url, 127.0.0.1:9901",
    ),
    # scalars
    ("init: {timeout: 0}", "init.timeout: must be more than 0, not 0 (line 1)"),
    ("init: {timeout: -1}", "init.timeout: must be more than 0, not -1"),
    ("init: {timeout: .nan}", "init.timeout: must be"),
    ("init: {timeout: .inf}", "init.timeout: must be"),
    ("init: {timeout: 1e999}", "init.timeout: must be"),
    ("init: {timeout: 999999999999}", "init.timeout: must be at most"),
    ("init: {timeout: true}", "init.timeout: cannot be true: must be a number"),
    ("init: {timeout: 10s}", "init.timeout: must be a number, not '10s'"),
    ("init: {timeout: null}", "init.timeout: must be a number, not null; leave the key out"),
    ("init: {timeout: [1]}", "init.timeout: must be a number (line 1)"),
    ("drain: {grace: -0.1}", "drain.grace: must be at least 0"),
    ("limits: {connections: 0}", "limits.connections: must be at least 1"),
    ("limits: {connections: 1.5}", "limits.connections: must be a whole number"),
    ("limits: {connections: 99999999999999999999999}", "limits.connections: must be"),
    ("limits: {target_length: 70000}", "limits.target_length: must be less than limits.head_size"),
    ("deferred_init: maybe", "deferred_init: must be true or false, not 'maybe'"),
    ("log: {level: verbose}", "log.level: must be 'debug', 'info', 'warning' or 'error', not"),
    ("upstream: {env: {TOKEN=s3cret: '1'}}", "upstream.env['TOKEN=']: the name of a variable"),
    (
        "upstream: {on_exit: dormant}",
        "upstream.on_exit: cannot be dormant without deferred_init",
    ),
    ("upstream: {on_exit: restat}", "upstream.on_exit: must be 'restart', 'exit' or 'dormant'"),
    ("upstream: {activation: fork}", "upstream.activation: must be"),
    # texts
    ("upstream: {command: []}", "upstream.command: cannot be empty"),
    ("upstream: {command: python -m x}", "upstream.command: must be a list; write it as [p"),
    ("upstream: {command: [a, 80]}", "upstream.command[1]: must be text; write it in quotes"),
    ("upstream: {command: ['']}", "upstream.command: the program's name cannot be empty"),
    ("upstream: {cwd: 5}", "upstream.cwd: must be text, not 5; write it in quotes: "),
    ("upstream: {cwd: ''}", "upstream.cwd: cannot be empty"),
    ("upstream: {run_dir: here}", "upstream.run_dir: cannot be 'here': must be an absolute path"),
    ("upstream: {run_dir: //}", "upstream.run_dir: cannot be /"),
    ("upstream: {env: {PORT: 8000}}", "upstream.env.PORT: must be text; write it in quotes (line"),
    ("upstream: {env: {D: yes, E: true}}", "upstream.env.E: must be text"),
    ("upstream: {env: {'A=B': x}}", "upstream.env['A=']: the name of a variable cannot contain"),
    ("upstream: {env: {'': x}}", "upstream.env['']: the name of a variable cannot be empty"),
    ('upstream: {env: {A: "x\\0"}}', "upstream.env.A: cannot contain NUL"),
    ("upstream: {deny_env: OH_X}", "upstream.deny_env: must be a list, not 'OH_X'; write"),
    ("init: {key: 12345}", "init.key: must be text; write it in quotes (line 1)"),
    ("init: {key: 's3cret '}", "init.key: has white space around it or control characters"),
    ("upstream: {ready: {path: alive}}", "upstream.ready.path: cannot be 'alive': must begin"),
    ("upstream: {ready: {path: '/a b'}}", "upstream.ready.path: cannot be '/a b': must be as on"),
    ("upstream: {ready: {statuses: 200}}", "upstream.ready.statuses: must be a list, not 200"),
    ("upstream: {ready: {statuses: []}}", "upstream.ready.statuses: cannot be empty"),
    (
        "upstream: {ready: {statuses: [99]}}",
        "upstream.ready.statuses[0]: cannot be 99: must be a status from 200 to 599, or a range",
    ),
    (
        "upstream: {ready: {statuses: [400-300]}}",
        "upstream.ready.statuses[0]: cannot be '400-300': must be a status from 200 to 599, or",
    ),
    (
        "upstream: {ready: {body: '(ok'}}",
        "upstream.ready.body: cannot be '(ok': is no regular expression: missing ), unterminated",
    ),
    ("upstream: {ready: {log: 5}}", "upstream.ready.log: cannot be 5: must be a regular"),
    (
        "upstream: {ready: {headers: {A B: x}}}",
        "upstream.ready.headers['A B']: a header's name has letters, digits and - only",
    ),
    (
        "upstream: {ready: {headers: {Content-Length: '1'}}}",
        "upstream.ready.headers.Content-Length: Content-Length is set by whoever sends",
    ),
    (
        'upstream: {ready: {headers: {Authorization: "Bearer s3cret\\n"}}}',
        "upstream.ready.headers.Authorization: must be as on a header line: ASCII, no line breaks",
    ),
    (
        "upstream: {ready: {path: null, body: ok}}",
        "upstream.ready.body: has no effect with upstream.ready.path: null",
    ),
    (
        "upstream: {activation: forward, ready: {log: up}}",
        "upstream.ready.log: cannot be given with upstream.activation: forward; what the upstream",
    ),
    ("gate: {open_paths: [/health]}", "gate.open_paths[0]: /health is answered by the proxy"),
    ("gate: {open_paths: ['/a?b']}", "gate.open_paths[0]: must be a path without a query"),
    ("upstream: {preload: {modules: all}}", "upstream.preload.modules: cannot be 'all': must be"),
    ("upstream: {preload: {modules: [a-b]}}", "upstream.preload.modules: 'a-b' is not a module"),
    ("upstream: {preload: {modules: [a], plan: /p}}", "upstream.preload.modules: cannot be a li"),
    # addresses
    ("listen: {address: 8000}", "listen.address: cannot be 8000: must be host:port"),
    ("listen: {address: ':8000'}", "listen.address: cannot be ':8000': the host is missing; [:"),
    ("listen: {address: '::1:80'}", "listen.address: cannot be '::1:80': an IPv6 address goes in"),
    ("listen: {address: '*:80'}", "listen.address: cannot be '*:80': '*' is no host"),
    ("listen: {address: 'a:http'}", "listen.address: cannot be 'a:http': the port must be"),
    ("listen: {address: 'a:65536'}", "listen.address: cannot be 'a:65536': the port must be"),
    ("listen: {address: '1.2.3.400:1'}", "listen.address: cannot be '1.2.3.400:1': the host is no"),
    ("listen: {address: '[::1:1'}", "listen.address: cannot be '[::1:1': an IPv6 address goes"),
    ("listen: {address: 'http://a:1'}", "listen.address: cannot be 'http://a:1': must be"),
    ("listen: {address: 'unix:p.s'}", "listen.address: cannot be 'unix:p.s': a Unix socket needs"),
    ("listen: {address: /run/p.s}", "listen.address: cannot be '/run/p.s': a Unix socket is wri"),
    (f"listen: {{address: 'unix:/{'x' * 107}'}}", "listen.address: cannot be 'unix:/xxx"),
    ("listen: {trusted_proxies: [10.0.0.1/8]}", "listen.trusted_proxies[0]: cannot be '10.0.0.1/"),
    ("upstream: {url: 127.0.0.1:1}", "upstream.url: cannot be '127.0.0.1:1': must be http://"),
    ("upstream: {url: https://a:1}", "upstream.url: cannot be 'https://a:1': https is not spoken"),
    ("upstream: {url: http://a:1/api}", "upstream.url: cannot be 'http://a:1/api': must not hav"),
    ("upstream: {url: 'http://a:1?x'}", "upstream.url: cannot be 'http://a:1?x': must not have a"),
    ("upstream: {url: http://u:s3cret@a:1}", "upstream.url: cannot be 'http://***@a:1': must not"),
    ("upstream: {url: http://a:0}", "upstream.url: cannot be 'http://a:0': the port must be"),
    ("upstream: {url: http+unix://%2Frun%2Fx}", "upstream.url: cannot be 'http+unix://%2Frun%2Fx'"),
    ("upstream: {url: http://127.0.0.1:8000}", "upstream.url: is the proxy's own listener, [:"),
    # the file
    ("- a", "FILE:1: must be a mapping of keys to values"),
    ("just text", "FILE:1: must be a mapping"),
    ("log: {}\n---\nlog: {}", "FILE:2: a second document begins; settings are one"),
    ("log: x: y", "FILE:1: a colon stands where no key can; check the indentation, or write"),
    ("log:\n\tlevel: x", "FILE:2: a tab stands where only spaces may; indent with spaces"),
    ("é: ü\r\n\té: x", "FILE:2: a tab stands where only spaces may; indent with spaces"),
    ("log: [\n  `x]", "FILE:2: a text cannot begin with this character; write it in quotes"),
    ("log: \n  'x", "FILE:2: is not YAML: "),
    ('log: "\\xg"', "FILE:1: is not YAML: "),
    ("log: \x07", "FILE:1: has a control character"),
    ("log: *a", "FILE:1: no anchor 'a'"),
    ("log: &a {level: *a}", "FILE:1: no anchor 'a' was completed before"),
    ("log: !!python/object:os.system x", "log: the tag 'tag:yaml.org,2002:python/object:os.sys"),
    ("log: {<<: 3}", "log['<<']: must be a mapping, or a list of mappings"),
    ("log: " + "[" * 100_000, "FILE:1: is nested deeper than 32 levels"),
    ("log: " + "[" * 33 + "]" * 33, "FILE:1: is nested deeper than 32 levels"),
    ("log:\n" + "- " * 1000, "FILE:2: is nested deeper than 32 levels"),
    ("x: [" + "1," * 60_000 + "]", "FILE:1: has more than 50000 values"),
    (b"log: \xff", "FILE:1: is not UTF-8"),
    (b"#" * 2_000_000, "FILE: is larger than 1048576 bytes"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), ONE_FAULT, ids=[str(t)[:40] for t, _ in ONE_FAULT])
def test_one_fault_is_one_line_at_its_place(
    text: str | bytes, expected: str, tmp_path: Path
) -> None:
    faults = faults_of(text, tmp_path)
    assert len(faults) == 1, faults
    assert faults[0].startswith(expected), faults[0]
    assert "s3cret" not in faults[0]


def test_all_faults_are_reported_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
listen: {adress: x}
init:
  timeout: soon
  timeout: later
upstream:
  ready: {path: 5, interval: 0}
  env: {A: 1}
  mapping:
    fields: {web_url: {}}
zzz: 1
"""
    faults = faults_of(text, tmp_path)
    assert [fault.partition(": ")[0] for fault in faults] == [
        "listen.adress",
        "init.timeout",
        "init.timeout",
        "upstream.ready.path",
        "upstream.ready.interval",
        "upstream.env.A",
        "upstream.mapping",
        "upstream.mapping.fields.web_url",
        "zzz",
    ]
    lines = [int(fault.rpartition("(line ")[2].rstrip(")")) for fault in faults]
    assert lines == [1, 3, 4, 6, 6, 7, 8, 9, 10]


def test_a_secret_in_the_wrong_place_is_not_repeated(tmp_path: Path) -> None:
    text = """\
init: {kye: s3cret, key: [s3cret]}
upstream: {env: s3cret, command: "run --token s3cret"}
deferred_init: {key: s3cret}
log: s3cret
"""
    faults = faults_of(text, tmp_path)
    assert len(faults) == 6
    assert "s3cret" not in "\n".join(faults)


def test_two_faults_of_one_list_do_not_hide_others(tmp_path: Path) -> None:
    text = """\
upstream:
  ready: {statuses: [1, 2, 3, true]}
  run_dir: /
  mapping: {fields: {web_url: {}}}
"""
    assert [fault.partition(": ")[0] for fault in faults_of(text, tmp_path)] == [
        *(f"upstream.ready.statuses[{index}]" for index in range(4)),
        "upstream.run_dir",
        "upstream.mapping",
        "upstream.mapping.fields.web_url",
    ]


def test_a_few_aliases_that_stand_for_thousands_of_values_are_refused(tmp_path: Path) -> None:
    levels = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 9)]
    (fault,) = faults_of("\n".join(["a0: &a0 x", *levels]), tmp_path)
    assert "has more than 50000 values (aliases counted as what they stand for)" in fault


def test_anchors_and_merges_work_and_keep_their_meaning(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("""\
upstream:
  ready: &probe {path: /alive, timeout: 3}
  env: {A: &text "0600", B: *text}
  preload: {<<: [{timeout: 5}, {timeout: 6, plan: /p}]}
""")
    upstream = load_settings(file, {}).upstream
    assert upstream.ready.path == "/alive"
    assert upstream.env == {"A": "0600", "B": "0600"}
    assert (upstream.preload.timeout, upstream.preload.plan) == (5, "/p")


@pytest.mark.parametrize("word", ["on", "yes", "True", "true", "'on'"])
def test_every_yaml_spelling_of_true_is_true(word: str, tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(f"init: {{allow_without_key: {word}}}")
    assert load_settings(file, {}).init.allow_without_key


@pytest.mark.parametrize("word", ["on", "no", "0600", "12:30", "1_000", "2020-01-01", "0x1F", "1e"])
def test_a_word_that_only_older_yaml_reads_as_something_else_is_text(
    word: str, tmp_path: Path
) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(f"upstream: {{env: {{A: {word}}}}}")
    assert load_settings(file, {}).upstream.env == {"A": word}


@pytest.mark.parametrize(
    ("name", "cause"),
    [("gone.yaml", "No such file"), ("", "Is a directory"), ("x\0", "no file has such a name")],
)
def test_a_file_that_cannot_be_read(name: str, cause: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / name, {"PROXY_LOG__LEVEL": "loud"})
    unreadable, variable = caught.value.faults
    assert unreadable.startswith(f"{tmp_path}")
    assert ": cannot be read: " in unreadable
    assert cause in unreadable
    assert variable.startswith("PROXY_LOG__LEVEL: ")


def test_an_unreadable_file_is_not_taken_for_one_without_a_key(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "gone", {"OH_DEFERRED_INIT": "1"})
    assert len(caught.value.faults) == 1
