"""An upstream that is no Python and knows nothing of sessions or conversations: Debian's nginx."""

from __future__ import annotations

import os
import pwd
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from tests.harness import KEY, ProxyProcess

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.timeout(60)]

# Its workers run as we do: the files under test are nobody else's.
CONFIGURATION = """
user {user};
daemon off;
worker_processes 1;
pid {root}/nginx.pid;
error_log stderr;
env GREETING;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    server {{
        listen unix:{root}/nginx.sock;
        location = /healthz {{ return 204; }}
        location /files/ {{ alias {root}/mount/; }}
        location = /settings {{ alias {root}/run/settings.yaml; }}
    }}
}}
"""


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[ProxyProcess]:
    binary = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    if binary is None:
        raise AssertionError("nginx is missing: apt-get install nginx")
    (tmp_path / "mount").mkdir()
    (tmp_path / "mount" / "page.txt").write_text("of the user")
    configuration = tmp_path / "nginx.conf"
    user = pwd.getpwuid(os.geteuid()).pw_name
    configuration.write_text(CONFIGURATION.format(root=tmp_path, user=user))
    proxy = ProxyProcess(
        settings(tmp_path, [binary, "-c", str(configuration)]), tmp_path, {}, executed=True
    )
    await proxy.start()
    yield proxy
    await proxy.close()


def settings(root: Path, command: list[str]) -> dict[str, Any]:
    return {
        "deferred_init": True,
        "listen": {"address": "127.0.0.1:0"},
        "init": {"key": KEY},
        "upstream": {
            "url": f"http+unix://{root}/nginx.sock",
            "command": command,
            "ready": {"path": "/healthz", "statuses": [204]},
            "run_dir": str(root / "run"),
            "profile": "none",
            "mapping": {
                "fields": {
                    "secret_key": {"file": "settings", "key": "secrets.signing"},
                    "web_url": {"file": "settings", "key": "url", "env": "PUBLIC_URL"},
                },
                "files": {
                    "settings": {
                        "path": "{run_dir}/settings.yaml",
                        "format": "yaml",
                        "mode": "0644",
                        "base": {"secrets": {"algorithm": "HS256"}},
                    }
                },
            },
        },
    }


async def test_nginx_lives_the_whole_life_cycle(proxy: ProxyProcess, tmp_path: Path) -> None:
    async with proxy.session.get(proxy.url + "/files/page.txt") as answer:
        assert answer.status == 503
    assert await proxy.state() == "dormant"

    assert (await proxy.init({"conversations_path": "/mnt"}))[0] == 422
    body = {"secret_key": "signing-key", "web_url": "https://a.test/", "env": {"GREETING": "hi"}}
    assert await proxy.init(body) == (200, {"state": "ready", "error": None})

    async with proxy.session.get(proxy.url + "/files/page.txt") as answer:
        assert (answer.status, await answer.text()) == (200, "of the user")
        assert answer.headers["Server"].startswith("nginx")
    async with proxy.session.get(proxy.url + "/settings") as answer:
        assert await answer.text() == (
            '"secrets":\n  "algorithm": "HS256"\n  "signing": "signing-key"\n'
            '"url": "https://a.test/"\n'
        )
    assert await proxy.stop() == 0
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "nginx.sock").exists()
