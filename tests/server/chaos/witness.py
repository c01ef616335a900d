"""An upstream that testifies: whose it is, and that it is the only one.

    python witness.py SOCKET DIRECTORY

Each start is one line of DIRECTORY/lives, written before anything else is done: its pid and start
time, the users of its environment and of both its files, and whether it was the only one. With
WITNESS_EXIT=3 in its environment it says its last words and exits with 3. While it lives it has a
child in a session of its own.
"""

from __future__ import annotations

import fcntl
import json
import os
import socketserver
import subprocess
import sys
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    life: dict[str, Any]
    requests: list[bytes] = []  # noqa: RUF012  what a server keeps of its user
    directory: Path

    def do_GET(self) -> None:
        self.requests.append(self.path.encode())
        path, _, query = self.path.partition("?")
        match path:
            case "/exit":
                os._exit(int(query))
            case "/say":
                print(query, file=sys.stderr, flush=True)
            case "/run":
                subprocess.run(["true", query], check=True)
            case "/wait":
                (self.directory / "waiting").touch()
                while not (self.directory / "answer").exists():
                    Event().wait(0.005)
        self._send(self.life)

    def do_POST(self) -> None:
        self.requests.append(self.rfile.read(int(self.headers["Content-Length"])))
        self._send({})

    def _send(self, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


def testify(directory: Path) -> dict[str, Any]:
    """One write, so that lines of two at a time stay whole; the lock goes with the process."""
    lock = os.open(directory / "alone", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    life = {
        "pid": os.getpid(),
        "started": int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]),
        "users": sorted({*_users_of_files(), os.environ.get("USER_TOKEN", "")}),
        "alone": alone,
    }
    lives = os.open(directory / "lives", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.write(lives, json.dumps(life).encode() + b"\n")
    os.close(lives)
    return life


def _users_of_files() -> list[str]:
    paths = [Path(os.environ[name]) for name in ("USER_FILE", "PLACE_FILE") if name in os.environ]
    return [json.loads(path.read_text())["user"] for path in paths]


def main(socket: str, directory: Path) -> None:
    Handler.life = testify(directory)
    Handler.directory = directory
    if code := os.environ.get("WITNESS_EXIT"):
        print("last words of", os.environ.get("LAST_WORDS"), file=sys.stderr)
        sys.exit(int(code))
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    Path(socket).unlink(missing_ok=True)
    Server(socket, Handler).serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
