"""A plain standard-library upstream that tells what it was given.

    python echo.py (--unix PATH | --port N) [--steer DIRECTORY]

All in one file, which tests copy and run in other ways. Its behaviour is steered by the environment
it is started with:

    ECHO_EXIT=3        quote the variable that ECHO_LAST_WORDS names to stderr, and exit 3
    ECHO_NEVER_READY=1 answer /ready with 503
    ECHO_SILENT=1      never listen
    ECHO_STUBBORN=1    ignore SIGTERM
    ECHO_CHILD=FILE    start a grandchild in a session of its own; its pid goes to FILE
    ECHO_READ_FILE=F   served at /file
    ECHO_SIGNALS=FILE  write to FILE which signals come; SIGQUIT ends it

With --steer a test steers its life by files, too. While these are in DIRECTORY:

    unready     /ready answers 503
    stubborn    SIGTERM is obeyed only when it is gone
    broken      it exits with 3 at its start
    slow        /api/slow is not answered; `slow-begun` shows that somebody has asked

All but /ready is then for the holder of the session key that it was started with. Without one it
is open, as the real ones are: a stale environment shows.
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
import time
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
            case "/api/eat":
                eaten = b"x" * (int(query["mebibytes"]) * 2**20)
                self._send(200, {"eaten": len(eaten)})
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

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


class SteeredHandler(Handler):
    """For the holder of the session key, as long as nothing in `steer` says otherwise."""

    steer = Path()
    key: str | None = None

    def do_GET(self) -> None:
        if self.path == "/ready" and (self.steer / "unready").exists():
            self._send(503, {})
        elif self.path != "/ready" and self.key not in {None, self.headers["X-Session-API-Key"]}:
            self._send(401, {"detail": "Unauthorized"})
        elif self.path == "/api/slow":
            (self.steer / "slow-begun").touch()
            self._wait_while("slow")
            self._send(200, {"slow": True})
        else:
            super().do_GET()

    @classmethod
    def leave(cls) -> None:
        cls._wait_while("stubborn")
        os._exit(0)

    @classmethod
    def _wait_while(cls, name: str) -> None:
        while (cls.steer / name).exists():
            time.sleep(0.01)


def steered_by(directory: Path) -> type[Handler]:
    SteeredHandler.steer = directory
    SteeredHandler.key = os.environ.get("OH_SESSION_API_KEYS_0")
    leave = SteeredHandler.leave
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=leave).start())
    return SteeredHandler


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class TcpServer(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_address = True


def write_signals(told: Path) -> None:
    def came(number: int, _frame: object) -> None:
        with told.open("a") as file:
            file.write(signal.Signals(number).name + "\n")
        if number == signal.SIGQUIT:
            os._exit(0)

    for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH, signal.SIGQUIT):
        signal.signal(number, came)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix")
    parser.add_argument("--port", type=int)
    parser.add_argument("--steer", type=Path)
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
    if args.steer is not None and (args.steer / "broken").exists():
        print("cannot start: broken", file=sys.stderr)
        return 3
    if os.environ.get("ECHO_SILENT"):
        signal.pause()
    if told := os.environ.get("ECHO_SIGNALS"):
        write_signals(Path(told))
    if os.environ.get("ECHO_STUBBORN"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    handler = Handler if args.steer is None else steered_by(args.steer)
    if args.unix:
        Path(args.unix).unlink(missing_ok=True)
        server: socketserver.BaseServer = UnixServer(args.unix, handler)
    else:
        server = TcpServer(("127.0.0.1", args.port), handler)
    print("echo upstream is up", file=sys.stderr, flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    socket.setdefaulttimeout(None)
    sys.exit(main())
