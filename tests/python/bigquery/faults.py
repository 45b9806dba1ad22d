"""A proxy before a server that lets some requests fail, as networks and servers do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

REFUSED = "refused"
"""Answered with 503, without asking the server."""
LOST = "lost"
"""Taken by the server, but its answer is lost on the way."""
BROKEN = "broken"
"""Cut off before the server has it."""


@dataclass
class Faults:
    """faults: what becomes of the next requests that start a job; then all is well.

    starts: how many there were. requests: all there were, of whatever kind.
    """

    endpoint: str = ""
    faults: list[str] = field(default_factory=list)
    starts: int = 0
    requests: int = 0


@contextmanager
def faulty(target: str) -> Iterator[Faults]:
    """A proxy before the server at `target`."""
    where = urlsplit(target)
    found = Faults()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            fault = None
            found.requests += 1
            if self.command == "POST" and "/jobs" in self.path:
                found.starts += 1
                fault = found.faults.pop(0) if found.faults else None
            if fault == BROKEN:
                self.close_connection = True
            elif fault == REFUSED:
                self._answer(503, b'{"error": {"code": 503, "message": "try again"}}', [])
            else:
                connection = HTTPConnection(str(where.hostname), where.port)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "accept-encoding"}
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                connection.close()
                if fault == LOST:
                    self.close_connection = True
                else:
                    self._answer(answer.status, content, answer.getheaders())

        do_POST = do_PUT = do_PATCH = do_DELETE = do_GET

        def _answer(self, status: int, content: bytes, headers: list[tuple[str, str]]) -> None:
            self.send_response(status)
            for name, value in headers:
                if name.lower() == "content-type":
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            """Tests are quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found.endpoint = f"http://127.0.0.1:{server.server_port}"
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()
