"""The third parties that the shop calls, in one process: `python third_party_server.py PORT`.

Standard library only. Not healthy, and not the shop's fault: now and then a connection is reset in
the middle of an answer, or the answer takes longer than anybody waits.
"""

from __future__ import annotations

import json
import os
import random
import socket
import struct
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RESET_SHARE = {"/charge": 0.022, "/recommendations": 0.014, "/prices": 0.002}
HANG_SHARE = {"/charge": 0.022, "/recommendations": 0.014, "/prices": 0.002}
HANG_SECONDS = 4.0
UNKNOWN_PRICE_EVERY = 80


class Handler(BaseHTTPRequestHandler):
    """Answers `/charge`, `/prices/SKU` and `/recommendations/SKU`."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Prices and recommendations."""
        self._answer()

    def do_POST(self) -> None:
        """Charges."""
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer()

    def log_message(self, *_) -> None:
        """Say nothing: these are not the shop's logs."""

    def _answer(self) -> None:
        kind = "/" + self.path.split("/")[1]
        chance = random.random()
        if chance < RESET_SHARE[kind]:
            self._reset()
            return
        if chance < RESET_SHARE[kind] + HANG_SHARE[kind]:
            time.sleep(HANG_SECONDS)
        time.sleep(random.lognormvariate(-4.0, 0.6))
        content = json.dumps(self._content(kind)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _content(self, kind: str) -> dict:
        if kind == "/charge":
            return {"receipt": random.getrandbits(40)}
        number = int(self.path.rsplit("-", 1)[1])
        if kind == "/prices":
            known = number % UNKNOWN_PRICE_EVERY != UNKNOWN_PRICE_EVERY - 1
            return {"cents": 500 + number * 7} if known else {}
        return {"skus": [f"SKU-{(number + step) % 500:05d}" for step in (3, 17, 101)]}

    def _reset(self) -> None:
        # Closing with a linger time of zero sends RST instead of FIN.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        # The handler's files still hold the socket object, so its own close() would wait for them.
        os.close(self.connection.detach())


class Server(ThreadingHTTPServer):
    """A client that gave up waiting is no event here."""

    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, *_) -> None:
        """The connection is gone; so be it."""


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
