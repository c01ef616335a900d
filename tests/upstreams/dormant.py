"""An upstream with a deferred init of its own, as the contract has it.

python dormant.py --port N --key KEY        POST {"env": {"FAIL": …}} is answered 500 and
                                            quotes the value, {"env": {"TELL": …}} the key,
                                            {"env": {"ECHO": …}} the whole request
GET /cut?N                                  the next N looks at its state are cut without an answer
GET /cuts                                   how many of them are left
"""

from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    key = ""
    state = "dormant"
    body: Any = None
    cuts = 0

    def do_GET(self) -> None:
        if self.path == "/api/init" and Handler.cuts:
            Handler.cuts -= 1
            self.close_connection = True
        elif self.path == "/api/init":
            self._send(200, {"state": self.state, "error": None})
        elif self.path.startswith("/cut?"):
            Handler.cuts = int(self.path[5:])
            self._send(200, {})
        elif self.path == "/cuts":
            self._send(200, Handler.cuts)
        elif self.path == "/ready":
            self._send(200, {})
        else:
            self._send(200 if self.state == "ready" else 503, {"delivered": Handler.body})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.headers.get("X-Init-API-Key") != self.key:
            self._send(401, {"detail": "wrong key"})
        elif "TELL" in body.get("env", {}):
            self._send(500, {"detail": f"cannot take {self.headers['X-Init-API-Key']}"})
        elif "ECHO" in body.get("env", {}):
            self._send(422, {"detail": [{"loc": ["body"], "input": body}]})
        elif "FAIL" in body.get("env", {}):
            self._send(500, {"detail": f"cannot use {body['env']['FAIL']}"})
        else:
            Handler.state, Handler.body = "ready", body
            self._send(200, {"state": "ready", "error": None})

    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--key")
    args = parser.parse_args()
    Handler.key = args.key
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()
    return 0


if __name__ == "__main__":
    sys.exit(main())
