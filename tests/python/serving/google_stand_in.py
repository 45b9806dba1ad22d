"""Stands for Google's certificates and for whom they certify: keys made here, served over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from google.auth import crypt, jwt

from tests.local_server import serving

AUDIENCE = "https://onedeal.example/v1/trigger/pubsub"
EMAIL = "pubsub@my-project.iam.gserviceaccount.com"


@cache
def _key(name: str) -> tuple[str, str]:
    """A private key and its certificate, as PEM."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(issuer)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    return private.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()


def token(key: str = "k1", *, named: str | None = None, **claims: Any) -> str:
    """A token that `key` signs; `named` is the key's name in it. Claims of None are left out."""
    now = int(time.time())
    payload = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "sub": "1234567890",
        "email": EMAIL,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    payload = {name: value for name, value in payload.items() if value is not None}
    signer = crypt.RSASigner.from_string(_key(key)[0], named or key)  # type: ignore[no-untyped-call]
    return bytes(jwt.encode(signer, payload)).decode()  # type: ignore[no-untyped-call]


@dataclass
class Google:
    """The server of certificates: of which keys, how often it was asked, and how it answers."""

    url: str
    keys: list[str] = field(default_factory=lambda: ["k1"])
    asked: int = 0
    status: int = 200


@contextmanager
def serve_certificates() -> Iterator[Google]:
    """Serve the certificates on a free port."""
    google = Google("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            google.asked += 1
            body = json.dumps({name: _key(name)[1] for name in google.keys}).encode()
            self.send_response(google.status)
            self.send_header("Cache-Control", "public, max-age=20000")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with serving(Handler) as address:
        google.url = f"{address}/certs"
        yield google
