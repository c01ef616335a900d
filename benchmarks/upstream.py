"""A small standard-library upstream that knows the moment from which it was ready.

    python upstream.py --unix PATH --delay SECONDS --ready-by {listening,answer} --stamp FILE

It becomes ready `--delay` after its start, by beginning to listen or by answering 200 where it
answered 503, and writes that moment (`time.monotonic()`, one clock for all processes) to FILE.
`GET /down?bytes=N` sends N bytes; `POST /up` waits a little, reads all and tells how many.
"""

from __future__ import annotations

import argparse
import http.server
import pathlib
import socketserver
import time
import urllib.parse

CHUNK = bytes(range(256)) * 256  # 64 KiB
READ_PAUSE = 0.5  # seconds: time for a proxy without backpressure to swallow the upload


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    ready_at = 0.0

    def do_GET(self) -> None:
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/down":
            self._send(int(urllib.parse.parse_qs(url.query)["bytes"][0]))
        else:
            self._answer(200 if time.monotonic() >= self.ready_at else 503, b"")

    def do_POST(self) -> None:
        time.sleep(READ_PAUSE)
        left = size = int(self.headers["Content-Length"])
        while left and (chunk := self.rfile.read1(min(left, 2**20))):
            left -= len(chunk)
        self._answer(200, str(size - left).encode())

    def _send(self, size: int) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        for start in range(0, size, len(CHUNK)):
            self.wfile.write(CHUNK[: min(len(CHUNK), size - start)])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name upstream
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--unix", required=True)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--ready-by", choices=("listening", "answer"), default="listening")
    parser.add_argument("--stamp", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    ready_at = time.monotonic() + arguments.delay
    if arguments.ready_by == "answer":
        Handler.ready_at = ready_at
        arguments.stamp.write_text(repr(ready_at))
    server = Server(arguments.unix, Handler, bind_and_activate=False)
    server.server_bind()
    if arguments.ready_by == "listening":
        time.sleep(max(ready_at - time.monotonic(), 0))
        arguments.stamp.write_text(repr(time.monotonic()))
    server.server_activate()
    server.serve_forever()


if __name__ == "__main__":
    main()
