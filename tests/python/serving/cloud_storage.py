"""A stand-in for Cloud Storage: its JSON API over a folder, as far as Google's client asks here."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from google_crc32c import Checksum

from tests.local_server import serving

OBJECTS = "/storage/v1/b/bucket/o"


@contextmanager
def serve_bucket(folder: Path) -> Iterator[str]:
    """The address of a server that has one bucket, `bucket`, in which lies what is in the folder.

    Listing, reading and removing, and uploads in one request (multipart) and in several
    (resumable).
    """
    uploads: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == OBJECTS:
                prefix = parse_qs(address.query)["prefix"][0]
                names = [str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file()]
                items = [self._described(name) for name in names if name.startswith(prefix)]
                self._send(200, {"items": items})
            elif address.path.startswith(f"/download{OBJECTS}/"):
                file = self._file(address.path)
                if file.is_file():
                    self._send(200, file.read_bytes())
                else:
                    self._send(404, {})
            else:
                self._send(404, {})

        def do_POST(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if query["uploadType"] == ["resumable"]:
                uploads.append(json.loads(body)["name"])
                place = f"{self.headers['Host']}/upload{OBJECTS}?upload_id={len(uploads) - 1}"
                self._send(200, {}, {"Location": f"http://{place}"})
                return
            head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            described, content = [
                part.get_payload(decode=True)
                for part in message_from_bytes(head + body).walk()
                if not part.is_multipart()
            ]
            assert isinstance(described, bytes) and isinstance(content, bytes)
            self._keep(json.loads(described)["name"], content)

        def do_PUT(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", self.headers["Content-Range"])
            # What is asked for here fits into one piece.
            assert span is not None and span[1] == "0" and int(span[2]) + 1 == int(span[3])
            self._keep(uploads[int(query["upload_id"][0])], body)

        def do_DELETE(self) -> None:
            file = self._file(urlsplit(self.path).path)
            found = file.is_file()
            file.unlink(missing_ok=True)
            self._send(204 if found else 404, b"")

        def _file(self, path: str) -> Path:
            return folder / unquote(path.rsplit("/", 1)[1])

        def _keep(self, name: str, content: bytes) -> None:
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            self._send(200, self._described(name))

        def _described(self, name: str) -> dict[str, str]:
            content = (folder / name).read_bytes()
            checksum: bytes = Checksum(content).digest()  # type: ignore[no-untyped-call]
            return {
                "name": name,
                "bucket": "bucket",
                "id": name,
                "generation": "1",
                "size": str(len(content)),
                "crc32c": b64encode(checksum).decode(),
            }

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with serving(Handler) as address:
        yield address
