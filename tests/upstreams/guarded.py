"""An upstream with authentication, whose life a test steers by files.

    python guarded.py --unix PATH --steer DIRECTORY

While these are in DIRECTORY:

    unready     /ready answers 503
    stubborn    SIGTERM is obeyed only when it is gone
    broken      it exits with 3 at its start
    slow        /api/slow is not answered; `slow-begun` shows that somebody has asked

All of /api is for the holder of the session key that it was started with. Without one it is open,
as the real ones are: a stale environment shows.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    steer = Path()
    key: str | None = None

    def do_GET(self) -> None:
        if self.path == "/ready":
            self._send(503 if (self.steer / "unready").exists() else 200, {})
        elif self.key is not None and self.headers.get("X-Session-API-Key") != self.key:
            self._send(401, {"detail": "Unauthorized"})
        else:
            if self.path == "/api/slow":
                (self.steer / "slow-begun").touch()
                while (self.steer / "slow").exists():
                    time.sleep(0.01)
            self._send(200, {"pid": os.getpid()})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix", type=Path)
    parser.add_argument("--steer", type=Path)
    args = parser.parse_args()
    steer: Path = args.steer
    if (steer / "broken").exists():
        print("cannot start: broken", file=sys.stderr)
        return 3

    def leave() -> None:
        while (steer / "stubborn").exists():
            time.sleep(0.01)
        os._exit(0)

    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
    Handler.steer, Handler.key = steer, os.environ.get("OH_SESSION_API_KEYS_0")
    args.unix.unlink(missing_ok=True)
    server = Server(str(args.unix), Handler)
    print("guarded upstream is up", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
