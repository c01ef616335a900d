"""The proxies that are compared, each as a command and a configuration of equal duty.

One worker, no access log, streaming both ways, upgrades on, `X-Forwarded-*` set, as many upstream
connections kept as there are clients, buffers of 16 KiB where there is a choice. Ours and Envoy
also give every request an id; the others are spared that.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from benchmarks.proc import proportional

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = Path(__file__).resolve().parents[2]
START_LIMIT = 30.0  # seconds
MARK = b"benchmark-upstream"  # in the command line of every upstream

NGINX = """worker_processes 1; daemon off; pid {dir}/nginx.pid; error_log /dev/null;
worker_rlimit_nofile 65536;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; client_body_temp_path {dir}/body;
  proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u;
  scgi_temp_path {dir}/s;
  upstream u {{ server 127.0.0.1:{up}; keepalive 512; keepalive_requests 1000000000; }}
  map $http_upgrade $wanted {{ default upgrade; '' ''; }}
  server {{ listen 127.0.0.1:{port} backlog=4096; client_max_body_size 0;
    proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection $wanted; proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto http;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_buffering off; proxy_request_buffering off; proxy_buffer_size 16k;
    proxy_buffers 8 16k; proxy_read_timeout 1h;
    location / {{ proxy_pass http://u; }} }} }}
"""

HAPROXY = """global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 1h
  timeout server 1h
  timeout tunnel 1h
  option http-no-delay
frontend f
  bind 127.0.0.1:{port} backlog 4096
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  default_backend b
backend b
  http-reuse always
  server s 127.0.0.1:{up}
"""

ENVOY = """static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: x
          use_remote_address: true
          stream_idle_timeout: 0s
          upgrade_configs: [{{upgrade_type: websocket}}]
          route_config:
            request_headers_to_add: [{{header: {{key: x-forwarded-host, value: "%REQ(:authority)%"}}}}]
            virtual_hosts:
            - {{name: v, domains: ["*"], routes: [{{match: {{prefix: /}}, route: {{cluster: c, timeout: 0s}}}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: c
    connect_timeout: 5s
    type: STATIC
    circuit_breakers: {{thresholds: [{{max_connections: 16384, max_pending_requests: 16384, max_requests: 16384}}]}}
    load_assignment:
      cluster_name: c
      endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {up}}}}}}}}}]}}]
"""  # noqa: E501  YAML of one record

CADDY = """{{
  admin off
  auto_https off
  log {{
    output discard
  }}
}}
http://:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{up} {{
    flush_interval -1
    transport http {{
      keepalive_idle_conns_per_host 512
    }}
  }}
}}
"""

OURS = """deferred_init: false
listen: {{address: "127.0.0.1:{port}"}}
init: {{allow_without_key: true}}
upstream:
  url: http://127.0.0.1:{up}
  command: {command}
  profile: none
  ready: {{path: /}}
log: {{level: warning}}
"""


@dataclass(frozen=True)
class Contender:
    """`command` and `config` may say `{port}`, `{up}` (the upstream's) and `{dir}`.

    `{config}` in the command is the file with the configuration. One that `supervises` starts an
    upstream of its own, at `{up}`, with `{command}`.
    """

    name: str
    program: str | None  # what must be on the PATH
    command: tuple[str, ...]
    config: str = ""
    version: tuple[str, ...] = ()
    tunnels: bool = True
    supervises: bool = False


CONTENDERS = [
    Contender("nginx", "nginx", ("nginx", "-p", "{dir}", "-c", "{config}"), NGINX, ("nginx", "-v")),
    Contender(
        "haproxy",
        "haproxy",
        ("haproxy", "-q", "-db", "-f", "{config}"),
        HAPROXY,
        ("haproxy", "-v"),
    ),
    Contender(
        "envoy",
        "envoy",
        ("envoy", "-c", "{config}", "--concurrency", "1", "-l", "off", "--disable-hot-restart"),
        ENVOY,
        ("envoy", "--version"),
    ),
    Contender(
        "caddy",
        "caddy",
        ("caddy", "run", "--adapter", "caddyfile", "--config", "{config}"),
        CADDY,
        ("caddy", "version"),
    ),
    Contender(
        "aiohttp",
        None,
        (sys.executable, "-m", "benchmarks.relay.plain", "{port}", "{up}"),
        version=(sys.executable, "-c", "import aiohttp; print(aiohttp.__version__)"),
        tunnels=False,
    ),
    Contender(
        "ours",
        None,
        (sys.executable, "-m", "proxy", "serve", "--config", "{config}"),
        OURS,
        supervises=True,
    ),
]


def versions(chosen: Iterable[Contender]) -> dict[str, str]:
    """What those that can say it say."""
    found = {}
    for contender in chosen:
        if contender.version:
            done = subprocess.run(contender.version, capture_output=True, text=True, check=True)
            number = re.search(r"\d+\.\d+\.\d+", done.stdout + done.stderr)
            found[contender.name] = number[0] if number else "?"
    return found


def missing(contender: Contender) -> str | None:
    """Why it cannot run here, or None."""
    if contender.program is not None and shutil.which(contender.program) is None:
        return f"{contender.program} is not on the PATH"
    return None


class Running:
    """A process on one core; `taskset` makes its children stay there as well.

    In a session of its own, because the kernel shares a core among sessions first (autogroup of
    sched(7)), and the upstream that ours supervises has one.
    """

    def __init__(self, command: list[str], core: int, *, env: dict[str, str] | None = None) -> None:
        taskset = ["taskset", "-c", str(core)] if shutil.which("taskset") else []
        self.process = subprocess.Popen(
            [*taskset, *command],
            cwd=ROOT,
            env=os.environ | (env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def alive(self) -> bool:
        """True; raises `ChildProcessError` once it has ended."""
        if self.process.poll() is not None:
            raise ChildProcessError(f"ended with {self.process.returncode}")
        return True

    @property
    def family(self) -> list[int]:
        """The process and its descendants, without an upstream that it started."""
        found = [self.process.pid]
        for pid in found:
            for children in Path(f"/proc/{pid}/task").glob("*/children"):
                found += (
                    child for child in map(int, children.read_text().split()) if not _apart(child)
                )
        return found

    def memory(self) -> int:
        """Bytes, proportional."""
        return sum(proportional(pid) for pid in self.family)

    def processor_seconds(self) -> float:
        ticks = 0
        for pid in self.family:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _apart(pid: int) -> bool:
    return MARK in Path(f"/proc/{pid}/cmdline").read_bytes()


def start(
    contender: Contender, directory: Path, *, port: int, up: int, command: list[str], core: int
) -> Running:
    """Start it before the upstream at `up`; returns when it relays."""
    names = {"port": port, "up": up, "dir": directory, "command": json.dumps(command)}
    config = directory / "config.yaml"  # Envoy goes by the suffix, the others do not mind
    if contender.config:
        config.write_text(contender.config.format(**names))
    argv = [part.format(config=config, **names) for part in contender.command]
    env = {"GOMAXPROCS": "1", "XDG_DATA_HOME": str(directory), "XDG_CONFIG_HOME": str(directory)}
    running = Running(argv, core, env=env)
    try:
        wait_for(lambda: running.alive() and answers(port), f"{contender.name} to relay")
    except BaseException:
        running.stop()
        raise
    return running


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def wait_for(condition: Callable[[], bool], what: str, every: float = 0.002) -> float:
    """Seconds until it held, looked at again after `every` seconds."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > START_LIMIT:
            raise TimeoutError(f"waited {START_LIMIT:g} s for {what}")
        time.sleep(every)
    return time.monotonic() - begin
