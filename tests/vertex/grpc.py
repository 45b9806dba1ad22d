"""The stand-in over gRPC, with TLS: the client has no way without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.api_core import exceptions as google
from google.cloud import aiplatform_v1 as v1

from tests.vertex.rest import OPERATIONS
from tests.vertex.service import VertexService


class _AnyCall(grpc.GenericRpcHandler):  # type: ignore[misc]
    def __init__(self, service: VertexService) -> None:
        self._service = service

    def service(self, details: Any) -> Any:
        call = details.method.rsplit("/", 1)[1]
        if call in OPERATIONS:
            read: Callable[[bytes], Any] = OPERATIONS[call].FromString
        elif hasattr(v1, f"{call}Request"):
            read = getattr(v1, f"{call}Request").deserialize
        else:
            return None
        return grpc.unary_unary_rpc_method_handler(self._handler(call), read, _bytes)

    def _handler(self, call: str) -> Callable[[Any, Any], Any]:
        def answer(request: Any, context: Any) -> Any:
            told = dict(context.invocation_metadata())
            try:
                if not told.get("authorization", "").startswith("Bearer "):
                    raise google.Unauthenticated("Request is missing required credential")
                return self._service.handle(call, request)
            except google.GoogleAPICallError as error:
                context.abort(error.grpc_status_code, error.message)

        return answer


def _bytes(message: Any) -> bytes:
    if hasattr(message, "SerializeToString"):
        return bytes(message.SerializeToString())
    return bytes(type(message).serialize(message))


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """The key and the certificate of `localhost`, in files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    key_file, certificate_file = folder / "key.pem", folder / "certificate.pem"
    key_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return key_file, certificate_file


@contextmanager
def serve_grpc(service: VertexService, key: Path, certificate: Path) -> Iterator[str]:
    """The service on a free port; gives its address.

    Clients trust it where GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names the certificate before the first
    channel of the process.
    """
    server = grpc.server(futures.ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((_AnyCall(service),))
    credentials = grpc.ssl_server_credentials([(key.read_bytes(), certificate.read_bytes())])
    port = server.add_secure_port("localhost:0", credentials)
    server.start()
    try:
        yield f"localhost:{port}"
    finally:
        server.stop(None).wait()
