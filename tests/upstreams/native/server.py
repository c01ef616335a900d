"""A server with a dormant mode and an init of its own, as the profile `openhands` describes them.

python server.py --unix PATH --mood FILE

Started with OH_DEFERRED_INIT=true it is dormant until POST /api/init with X-Init-API-Key =
OH_SECRET_KEY; else it serves at once by its environment, and knows of no init. FILE holds a JSON
object, read anew at each occasion, that says how it misbehaves:

{"boot": "plain"}       knows of no dormant mode      {"boot": "ready"}   says it was initialized
{"boot": "die"}         ends before it listens        {"boot": "silent"}  answers nothing
{"init": "fail"}        500, quoting the body         {"init": "die"}     ends
{"init": "garbage"}     200, no JSON                  {"init": "hang"}    no answer
{"init": "never"}       200 ready, its readiness probe never passes
{"init": "deaf"}        200 ready, and the session keys are not asked for
{"unknown": [FIELD]}    422 naming the field          {"cors": true}      heeds allowed origins
"""

from __future__ import annotations

import argparse
import json
import os
import socketserver
import sys
import time
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

STARTED_WITH = dict(os.environ)


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    mood_file = Path()
    state: str | None = None
    key = os.environ.get("OH_SECRET_KEY", "")
    keys: tuple[str, ...] = ()
    fields: dict[str, Any] = {}  # noqa: RUF012  of the one server
    ready = True

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/api/init":
            if self.state is None:
                self._send(404, {"detail": "Not Found"})
            else:
                self._send(200, {"state": self.state, "error": None})
        elif path == "/ready":
            self._send(200 if Handler.ready else 503, {})
        elif path in {"/server_info", "/"}:
            self._send(200, {"pid": os.getpid(), "state": self.state})
        elif self.state not in {None, "ready"}:
            self._send(503, {"detail": "dormant"})
        elif self.keys and self.headers.get("X-Session-API-Key") not in self.keys:
            self._send(401, {"detail": "Unauthorized"})
        else:
            told = {"pid": os.getpid(), "fields": self.fields, "env": dict(os.environ)}
            self._send(200, told | {"started_with": STARTED_WITH})

    def do_OPTIONS(self) -> None:
        origin = self.headers.get("Origin", "")
        heeded = mood().get("cors") and origin in self.fields.get("allow_cors_origins", ())
        self._send(200, {}, {"Access-Control-Allow-Origin": origin} if heeded else {})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        how = mood().get("init")
        unknown = [name for name in mood().get("unknown", ()) if name in body]
        if self.headers.get("X-Init-API-Key") != self.key:
            self._send(401, {"detail": "wrong key"})
        elif self.state != "dormant":
            self._send(400, {"detail": "already"})
        elif unknown:
            self._send(422, {"detail": [{"loc": ["body", n], "input": body} for n in unknown]})
        elif how == "fail":
            self._send(500, {"detail": f"cannot use {body}"})
        elif how == "die":
            print("the last words of the server", file=sys.stderr, flush=True)
            os._exit(4)
        elif how == "garbage":
            self._answer(200, b"<html>what?</html>", {})
        elif how == "hang":
            Handler.state = "initializing"
            time.sleep(3600)
        else:
            self._become_ready(body, how)

    def _become_ready(self, body: dict[str, Any], how: str | None) -> None:
        os.environ.update(body.get("env") or {})
        Handler.fields = {name: value for name, value in body.items() if name != "env"}
        Handler.key = body.get("secret_key") or self.key
        Handler.keys = tuple(body.get("session_api_keys") or ()) if how != "deaf" else ()
        Handler.ready = how != "never"
        Handler.state = "ready"
        self._send(200, {"state": "ready", "error": None})

    def _send(self, status: int, body: object, headers: dict[str, str] | None = None) -> None:
        self._answer(status, json.dumps(body).encode(), headers or {})

    def _answer(self, status: int, data: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def address_string(self) -> str:
        return "unix"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def mood() -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(Handler.mood_file.read_text())
    except FileNotFoundError:
        return {}
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix", required=True)
    parser.add_argument("--mood", type=Path, required=True)
    args = parser.parse_args()
    Handler.mood_file = args.mood
    dormant = os.environ.get("OH_DEFERRED_INIT") == "true"
    boot = mood().get("boot") if dormant else None
    if boot == "die":
        return 5
    if dormant and boot != "plain":
        Handler.state = "ready" if boot == "ready" else "dormant"
    if not dormant:
        numbered = (os.environ.get(f"OH_SESSION_API_KEYS_{i}") for i in range(9))
        Handler.keys = tuple(filter(None, numbered))
    Path(args.unix).unlink(missing_ok=True)
    server = Server(args.unix, Handler)
    if boot == "silent":
        time.sleep(3600)
    print("listening", flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
