"""HTTP: a request in, a page out. GET and HEAD; every answer carries the same headers, refusals and mistakes too."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from whence.errors import StorageError
from whence.jobs.serve.gate import HEADERS, LOOPBACK, Gate, Refused
from whence.jobs.serve.site import Reply, Site

PATIENCE = 30.0
"""Seconds that a connection may take to say what it wants."""
METHODS = ("GET", "HEAD")
MISTAKE = "Something went wrong in making this page. The terminal that the server runs in says what."


class Server(ThreadingHTTPServer):
    """Serves one folder on 127.0.0.1 until it is shut down.

    Args:
        port: 0 takes a free one.
        say: Where mistakes are told; never to the browser.

    Raises:
        StorageError: If the port is taken, or may not be had.
    """

    daemon_threads = True
    allow_reuse_address = False  # or another program's could be taken over

    def __init__(self, folder: Path, port: int = 0, say: Callable[[str], object] | None = None) -> None:
        try:
            super().__init__((LOOPBACK, port), Handler)
        except OSError as error:
            raise StorageError(
                f"port {port} of {LOOPBACK} cannot be had: {error.strerror}",
                hint="give another, or --port 0 for a free one",
            ) from error
        self.gate = Gate(self.server_port)
        self.site = Site(folder, self.gate)
        self.say = say or sys.stderr.write

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that broke off is nobody's mistake; anything else is told in the terminal."""
        error = sys.exception()
        if not isinstance(error, ConnectionError | TimeoutError):
            self.say(traceback.format_exc())


class Handler(BaseHTTPRequestHandler):
    """One request."""

    server: Server
    server_version, sys_version = "whence", ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        self._send(self._reply())

    def do_HEAD(self) -> None:
        self._send(self._reply())

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """What the base class refuses before anybody is asked: a request it cannot read, a method it has not."""
        self.close_connection = True
        if code == 501:
            self._send(self._refusal(405, "This server only shows: GET and HEAD."))
        else:
            self._send(self._refusal(code, "This request cannot be read."))

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the base class's name)
        """Addresses hold the token: they are written nowhere."""

    def _reply(self) -> Reply:
        try:
            if self.request_version == "HTTP/0.9":
                raise Refused(400, "This request cannot be read.")
            return self.server.site.reply(self.server.gate.admit(self.path, self.headers))
        except Refused as refused:
            return self._refusal(refused.status, refused.why)
        except Exception:
            self.server.say(traceback.format_exc())
            return self._refusal(500, MISTAKE)

    def _refusal(self, status: int, why: str) -> Reply:
        """Plain text to whoever has not shown the token; nothing of ours is in it."""
        return Reply(
            f"{why}\n".encode(), status, "text/plain; charset=utf-8", "default-src 'none'; frame-ancestors 'none'"
        )

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        headers = {
            **HEADERS,
            "Content-Security-Policy": reply.policy,
            "Content-Type": reply.kind,
            "Content-Length": str(len(reply.body)),
        }
        if reply.status == 405:
            headers["Allow"] = ", ".join(METHODS)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(reply.body)
