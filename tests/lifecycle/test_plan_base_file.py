"""Where the launcher finds the file that lies under a written one."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from proxy.launcher.session.spec import Spec

BASE = "${CONF:-work/conf.json}"


def located(base_file: str | None, inherited: dict[str, str], **spec: Any) -> str | None:
    content = base64.b64encode(b"{}").decode()
    message = {
        "argv": ["x"],
        "files": [{"path": "/f", "content": content, "base_file": base_file}],
    }
    env = {name.encode(): value.encode() for name, value in inherited.items()}
    (file,) = Spec(message | spec).located_files(env)
    return file.base_file


@pytest.mark.parametrize(
    ("base_file", "inherited", "path"),
    [
        (None, {}, None),
        ("/etc/conf.json", {"CONF": "/x"}, "/etc/conf.json"),
        (BASE, {"CONF": "/mnt/pod.json"}, "/mnt/pod.json"),
        (BASE, {}, "work/conf.json"),
        (BASE, {"CONF": ""}, "work/conf.json"),
        ("${CONF}", {}, None),
        ("${HOME}/.app/${CONF:-a}.json", {"HOME": "/root"}, "/root/.app/a.json"),
        ("$CONF ${1} ${CONF", {"CONF": "x"}, "$CONF ${1} ${CONF"),
    ],
)
def test_a_base_file_may_be_named_by_the_deployments_environment(
    base_file: str | None, inherited: dict[str, str], path: str | None
) -> None:
    assert located(base_file, inherited) == path


def test_the_deployments_settings_win_over_what_the_launcher_inherited() -> None:
    assert located(BASE, {"CONF": "/a"}, base_env={"CONF": "/b"}) == "/b"
    assert located(BASE, {"CONF": "/a"}, base_unset=["CON*"]) == "work/conf.json"


def test_what_an_init_delivers_does_not_move_the_base_file() -> None:
    assert located(BASE, {"CONF": "/a"}, env={"CONF": "/b"}, unset=["CONF"]) == "/a"
