"""A plain standard-library upstream that tells what it was given.

    python echo.py (--unix PATH | --port N)

Its behaviour is steered by the environment it is started with:

    ECHO_EXIT=3        quote the variable that ECHO_LAST_WORDS names to stderr, and exit 3
    ECHO_NEVER_READY=1 answer /ready with 503
    ECHO_SILENT=1      never listen
    ECHO_STUBBORN=1    ignore SIGTERM
    ECHO_CHILD=FILE    start a grandchild in a session of its own; its pid goes to FILE
    ECHO_READ_FILE=F   served at /file
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = False

    def do_GET(self) -> None:  # noqa: C901  a table of what can be asked
        url = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        match url.path:
            case "/ready" | "/alive":
                self._send(503 if os.environ.get("ECHO_NEVER_READY") else 200, {"ok": True})
            case "/api/env":
                self._send(200, dict(os.environ))
            case "/api/self":
                self._send(200, {"pid": os.getpid(), "cwd": str(Path.cwd()), "argv": sys.argv})
            case "/api/config":
                path = Path(os.environ["OPENHANDS_AGENT_SERVER_CONFIG_PATH"])
                content = json.loads(path.read_text())
                mode = oct(path.stat().st_mode & 0o777)
                self._send(200, {"path": str(path), "mode": mode, "content": content})
            case "/api/file":
                self._send(200, {"text": Path(os.environ["ECHO_READ_FILE"]).read_text()})
            case "/api/exit":
                self._send(200, {"exiting": query["code"]})
                self.wfile.flush()
                os._exit(int(query["code"]))
            case "/api/orphan":
                subprocess.run(["sh", "-c", "(sleep 0.05 &)"], check=True)
                self._send(200, {"left": True})
            case "/api/print":
                print(query["line"], file=sys.stderr, flush=True)
                self._send(200, {"printed": True})
            case "/api/slow":
                # Answers when the gate file appears, so that a test decides how long it takes.
                gate = Path(query["until"])
                Path(query["started"]).touch()
                while not gate.exists():
                    threading.Event().wait(0.01)
                self._send(200, {"slow": True})
            case _:
                self._send(200, {"head": self.requestline})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._send(200, {"length": len(body), "headers": list(self.headers.items())})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix")
    parser.add_argument("--port", type=int)
    args = parser.parse_args()
    if child := os.environ.get("ECHO_CHILD"):
        sleeper = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True
        )
        Path(child).write_text(str(sleeper.pid))
    if code := os.environ.get("ECHO_EXIT"):
        words = os.environ.get(os.environ.get("ECHO_LAST_WORDS", ""), "nothing")
        print(f"cannot log in with {words}", file=sys.stderr)
        return int(code)
    if os.environ.get("ECHO_SILENT"):
        signal.pause()
    if os.environ.get("ECHO_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if args.unix:
        Path(args.unix).unlink(missing_ok=True)
        server: socketserver.BaseServer = UnixServer(args.unix, Handler)
    else:
        server = TcpServer(("127.0.0.1", args.port), Handler)
    print("echo upstream is up", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    socket.setdefaulttimeout(None)
    sys.exit(main())
