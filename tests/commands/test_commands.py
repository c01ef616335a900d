"""The commands init, status, check and schema as processes, against real servers."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from tests.client.orchestrated import Scripted, scripted
from tests.harness import KEY, ROOT, clean_environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.harness import Serve

pytestmark = pytest.mark.slow


@dataclass
class Ended:
    code: int
    out: str
    err: str


async def spawn(*arguments: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "proxy", *arguments, cwd=ROOT, env=clean_environment(**(env or {})),
        stdin=pipe, stdout=pipe, stderr=pipe,
    )  # fmt: skip


async def command(
    *arguments: str, stdin: str | bytes = "", env: dict[str, str] | None = None
) -> Ended:
    process = await spawn(*arguments, env=env)
    given = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        async with asyncio.timeout(60):
            out, err = await process.communicate(given)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return Ended(process.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def server() -> AsyncIterator[Scripted]:
    async with scripted() as running:
        yield running


# init


async def test_init_and_status_on_a_real_proxy(serve: Serve) -> None:
    proxy = await serve()
    where = ["--url", proxy.url]
    refused = await command("init", *where, env={"OH_SECRET_KEY": "wrong"})
    assert (refused.code, refused.out) == (1, "")
    assert "X-Init-API-Key is missing or wrong (HTTP 401)" in refused.err
    assert "note: " not in refused.err
    refused = await command("init", *where)
    assert "note: no key was given; set OH_SECRET_KEY or --key-file\n" in refused.err
    done = await command("init", *where, "--env", "A=1", env={"OH_SECRET_KEY": KEY})
    assert (done.code, json.loads(done.out)) == (0, {"state": "ready", "error": None})
    shown = await command("status", *where)
    assert (shown.code, json.loads(shown.out)) == (0, {"state": "ready", "error": None})
    again = await command("init", *where, env={"OH_SECRET_KEY": KEY})
    assert again.code == 1
    assert "server already in state: ready" in again.err


async def test_everything_that_can_be_delivered_arrives(server: Scripted, tmp_path: Path) -> None:
    env_file = tmp_path / "user.env"
    env_file.write_text("A=from file\nB='b'\n")
    key_file = tmp_path / "key"
    key_file.write_text("k from file\n")
    body = {"env": {"A": "body", "C": "body"}, "webhooks": [{"base_url": "http://h"}]}
    done = await command(
        *("init", "--url", server.url, "--key-file", str(key_file), "--body", "-"),
        *("--env-file", str(env_file), "--env", "B=last=1", "--env", "MINE", "--env", "EMPTY="),
        *("--session-api-key", "one", "--session-api-key", "two", "--secret-key", "s"),
        *("--previous-secret-key", "p", "--conversations-path", "/c", "--bash-events-dir", "/b"),
        *("--conversation-worktree-root", "/w", "--web-url", "http://u"),
        *("--allow-cors-origin", "http://o", "--max-concurrent-runs", "3"),
        stdin=json.dumps(body),
        env={"MINE": "mine", "OH_SECRET_KEY": "not this one"},
    )
    assert done.code == 0, done.err
    headers, posted = server.posted
    assert headers["X-Init-API-Key"] == "k from file"
    assert posted == {
        "env": {"A": "from file", "B": "last=1", "C": "body", "MINE": "mine", "EMPTY": ""},
        "webhooks": [{"base_url": "http://h"}],
        "session_api_keys": ["one", "two"],
        "secret_key": "s",
        "previous_secret_keys": ["p"],
        "conversations_path": "/c",
        "bash_events_dir": "/b",
        "conversation_worktree_root": "/w",
        "web_url": "http://u",
        "allow_cors_origins": ["http://o"],
        "max_concurrent_runs": 3,
    }


async def test_the_url_may_come_from_the_environment(tmp_path: Path) -> None:
    async with scripted(tmp_path / "p.sock") as server:
        env = {"DEFERRED_INIT_PROXY_URL": server.url}
        assert (await command("init", env=env)).code == 0
        assert (await command("status", env=env)).code == 0
    headers, body = server.posted
    assert "X-Init-API-Key" not in headers
    assert body == {}


async def test_progress_goes_to_stderr_and_the_status_to_stdout(server: Scripted) -> None:
    server.let_go.clear()
    process = await spawn("init", "--url", server.url)
    assert process.stderr is not None
    async with asyncio.timeout(60):
        await server.asked.wait()
        while b"initializing: start" not in (line := await process.stderr.readline()):
            assert line
        server.status = {"state": "initializing", "error": None, "phase": "probe"}
        while b"initializing: probe" not in (line := await process.stderr.readline()):
            assert line
        server.let_go.set()
        out, _ = await process.communicate()
    assert (process.returncode, json.loads(out)) == (0, {"state": "ready", "error": None})


async def test_a_failed_activation_shows_the_servers_error_and_what_is_left(
    server: Scripted,
) -> None:
    left = {"state": "dormant", "error": "the upstream exited with code 3"}
    server.answer = 500, left
    failed = await command("init", "--quiet", "--url", server.url)
    assert (failed.code, json.loads(failed.out)) == (1, left)
    assert failed.err == "error: the upstream exited with code 3 (HTTP 500)\n"


async def test_an_impatient_or_interrupted_caller_says_so(server: Scripted) -> None:
    server.let_go.clear()
    late = await command("init", "-q", "--timeout", "0.1", "--url", server.url)
    assert late.code == 1
    assert late.err.startswith(f"error: {server.url} did not answer in time")
    server.asked.clear()
    process = await spawn("init", "-q", "--url", server.url)
    async with asyncio.timeout(60):
        await server.asked.wait()
        process.send_signal(signal.SIGINT)
        _, err = await process.communicate()
    assert process.returncode == 130
    assert err.decode() == "interrupted; an activation that has begun goes on\n"


@pytest.mark.parametrize("name", ["init", "status"])
async def test_nobody_there_is_one_line(tmp_path: Path, name: str) -> None:
    url = f"http+unix://{tmp_path}/x"
    failed = await command(name, "--url", url)
    assert (failed.code, failed.out) == (1, "")
    assert failed.err == f"error: cannot connect to {url}: No such file or directory\n"


async def test_a_secret_on_the_command_line_is_warned_of_and_not_repeated(server: Scripted) -> None:
    secrets = ["--session-api-key", "s3cret", "--env", "A=s3cret"]
    done = await command("init", "--url", server.url, *secrets)
    assert done.err.startswith("warning: other users can see --session-api-key and --env in the")
    assert "s3cret" not in done.err + done.out
    server.seen.clear()
    quiet = await command(
        *("init", "--url", server.url, "--env", "A", "--body", "-"),
        stdin='{"session_api_keys": ["s3cret"]}',
        env={"A": "s3cret"},
    )
    assert "warning" not in quiet.err
    assert server.posted[1] == {"session_api_keys": ["s3cret"], "env": {"A": "s3cret"}}


@pytest.mark.parametrize(
    ("arguments", "stdin", "errors"),
    [
        (["--url", "ftp://x"], "", ["cannot use the URL 'ftp://x'"]),
        (["--timeout", "0"], "", ["argument --timeout: invalid seconds value: '0'"]),
        (["--timeout", "nan"], "", ["argument --timeout: invalid seconds value: 'nan'"]),
        (["--max-concurrent-runs", "many"], "", ["argument --max-concurrent-runs"]),
        (["--body", "-"], "{", ["error: --body: stdin:1:2: "]),
        (["--body", "-"], "[]", ["error: --body: stdin: must be a JSON object"]),
        (["--body", "-"], '{"env": 1, "env": "s3cret"}', ["--body: stdin: has the key 'env' twi"]),
        (["--body", "-"], "[" * 100_000, ["error: --body: stdin: is nested too deeply"]),
        (["--body", "-"], b"\xff", ["error: --body: stdin is not UTF-8"]),
        (["--body", "-"], b" " * 1_048_577, ["error: --body: stdin is larger than 1048576 bytes"]),
        (["--body", "/nonexistent"], "", ["--body: cannot read /nonexistent: No such file"]),
        (["--body", "-", "--env-file", "-"], "", ["only one of --key-file, --body and --env-file"]),
        (["--env", "=x"], "", ["--env: the name of a variable is missing"]),
        (["--env", "NOT_SET_HERE"], "", ["--env: NOT_SET_HERE is not set here, and no value"]),
        (["--key-file", "-"], "\n", ["--key-file: -: holds no key"]),
        (["--key-file", "-"], "s3\tcret", ["has white space around the key, or control"]),
        (
            ["--env-file", "-", "--env", "NOT_SET_HERE", "--body", "/nonexistent"],
            "A=1\nB\n",
            ["stdin:2: is not NAME=VALUE", "NOT_SET_HERE", "/nonexistent"],
        ),
    ],
)
async def test_bad_usage_ends_with_2_and_every_fault_before_anything_is_sent(
    server: Scripted, arguments: list[str], stdin: str | bytes, errors: list[str]
) -> None:
    ended = await command("init", "--url", server.url, *arguments, stdin=stdin)
    assert (ended.code, ended.out) == (2, "")
    for error in errors:
        assert error in ended.err
    assert "s3cret" not in ended.err
    assert "Traceback" not in ended.err
    assert not server.seen


# status


async def test_watching_prints_each_change_until_the_proxy_is_gone() -> None:
    async with scripted() as server:
        process = await spawn("status", "--watch", "--details", "--url", server.url)
        assert process.stdout is not None
        async with asyncio.timeout(60):
            assert json.loads(await process.stdout.readline()) == server.status
            server.status = {"state": "initializing", "error": None, "phase": "probe"}
            assert json.loads(await process.stdout.readline()) == server.status
    async with asyncio.timeout(60):
        out, err = await process.communicate()
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"error: ")
    assert err.count(b"\n") == 1


async def test_a_reader_that_has_seen_enough_ends_the_watch_quietly(server: Scripted) -> None:
    watch = f"{sys.executable} -m proxy status --watch --url {server.url} | head -1; "
    process = await asyncio.create_subprocess_shell(
        watch, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        await process.stdout.readline()
        server.status = {"state": "ready", "error": None}
        out, err = await process.communicate()
    assert (out, err) == (b"", b"")


async def test_the_status_of_a_server_without_deferred_init(server: Scripted) -> None:
    server.status = {"detail": "there is no init here"}
    shown = await command("status", "--url", server.url)
    assert shown.code == 1
    assert "there is no init here" in shown.err


# check and schema


async def test_check_says_ok_or_every_fault(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text("init: {timeout: 0}\nlog: {levle: info}\n")
    wrong = await command("check", str(file), env={"PROXY_DRAIN__GRACE": "-1"})
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err.splitlines() == [
        "error: init.timeout: must be more than 0, not 0 (line 1)",
        "error: log.levle: unknown key; did you mean level? (line 2)",
        "error: PROXY_DRAIN__GRACE: must be at least 0, not '-1'",
    ]
    file.write_text("init: {timeout: 1}\n")
    right = await command("check", str(file))
    assert (right.code, right.out, right.err) == (0, f"{file}: ok\n", "")


async def test_check_without_a_file_checks_the_environment() -> None:
    env = {"OH_DEFERRED_INIT": "true", "OH_SECRET_KEY": " "}
    ended = await command("check", env=env)
    assert (ended.code, ended.out) == (0, "environment: ok\n")
    assert ended.err == "note: init.key is blank, so every init is refused\n"
    ended = await command("check", env={"OH_DEFERRED_INIT": "true"})
    assert ended.code == 2
    assert ended.err.startswith("error: init.key: is not set")


async def test_check_says_which_arguments_show_what_is_delivered(tmp_path: Path) -> None:
    file = tmp_path / "proxy.yaml"
    file.write_text(
        "{deferred_init: true, init: {key: k},"
        " upstream: {command: [server, --token, 'is {session_api_keys[0]}']}}"
    )
    ended = await command("check", str(file))
    assert (ended.code, ended.out) == (0, f"{file}: ok\n")
    assert ended.err == (
        "note: upstream.command[2] shows session_api_keys[0] to whoever can list processes\n"
    )


async def test_the_schema_is_a_json_schema() -> None:
    ended = await command("schema")
    schema = json.loads(ended.out)
    assert ended.code == 0
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    assert "upstream" in schema["properties"]
