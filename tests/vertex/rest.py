"""The stand-in over REST. Its routes are those that the client itself has in its tables."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from google.api_core import exceptions as google
from google.cloud import aiplatform_v1 as v1
from google.cloud.aiplatform_v1.services.endpoint_service.transports import rest_base as endpoints
from google.cloud.aiplatform_v1.services.job_service.transports import rest_base as jobs
from google.cloud.aiplatform_v1.services.model_service.transports import rest_base as models
from google.cloud.aiplatform_v1.services.prediction_service.transports import (
    rest_base as predictions,
)
from google.longrunning import operations_pb2
from google.protobuf import json_format

from tests.local_server import serving
from tests.vertex.service import VertexService

MAX_PREDICT_BYTES = 1_500_000
"""cloud.google.com/vertex-ai/docs/predictions/get-online-predictions: 1.5 MB or smaller."""
TRANSPORTS = (
    models._BaseModelServiceRestTransport,
    endpoints._BaseEndpointServiceRestTransport,
    predictions._BasePredictionServiceRestTransport,
    jobs._BaseJobServiceRestTransport,
)
OPERATIONS = {
    "GetOperation": operations_pb2.GetOperationRequest,
    "ListOperations": operations_pb2.ListOperationsRequest,
}


@cache
def routes() -> list[tuple[str, str, re.Pattern[str], list[str], str]]:
    """HTTP method, call, path, the fields that the path holds, and the field that is the body."""
    found = []
    for transport in TRANSPORTS:
        for name, inner in vars(transport).items():
            if not name.startswith("_Base") or not hasattr(inner, "_get_http_options"):
                continue
            for option in inner._get_http_options():
                pattern, fields = _pattern(option["uri"])
                found.append((option["method"], name[5:], pattern, fields, option.get("body", "")))
    return found


def _pattern(uri: str) -> tuple[re.Pattern[str], list[str]]:
    fields: list[str] = []
    parts = []
    for literal, name, wildcard in re.findall(r"([^{]+)|\{([\w.]+)=([^}]+)\}", uri):
        if literal:
            parts.append(re.escape(literal))
        else:
            fields.append(name)
            parts.append("(" + re.escape(wildcard).replace(r"\*", "[^/:]+") + ")")
    return re.compile("".join(parts)), fields


def read_request(method: str, url: str, body: bytes) -> tuple[str, Any]:
    """The call that an HTTP request is, and its message. Raises BadRequest for an unknown field."""
    address = urlsplit(url)
    for verb, call, pattern, fields, body_field in routes():
        matched = pattern.fullmatch(unquote(address.path))
        if verb.upper() != method or not matched:
            continue
        document: dict[str, Any] = {}
        if body_field:
            content = json.loads(body or b"{}")
            document = content if body_field == "*" else {body_field: content}
        told = [*zip(fields, matched.groups(), strict=True), *parse_qsl(address.query)]
        for name, value in told:
            if not name.startswith("$"):
                _put(document, name.split("."), value)
        kind = OPERATIONS.get(call) or getattr(v1, f"{call}Request")
        message = kind() if call in OPERATIONS else kind.pb(kind())
        try:
            json_format.ParseDict(document, message)
        except json_format.ParseError as error:
            raise google.InvalidArgument(f"Invalid JSON payload received. {error}") from error
        return call, message if call in OPERATIONS else kind.wrap(message)
    raise google.NotFound(f"no route for {method} {address.path}")


def _put(document: dict[str, Any], path: list[str], value: str) -> None:
    for part in path[:-1]:
        document = document.setdefault(part, {})
    document[path[-1]] = value


class _Handler(BaseHTTPRequestHandler):
    service: VertexService
    protocol_version = "HTTP/1.1"
    # Without it, each answer waits for the client's acknowledgement of the headers.
    wbufsize = -1

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            if not self.headers.get("Authorization", "").startswith("Bearer "):
                # cloud.google.com/docs/authentication/rest
                raise google.Unauthenticated("Request is missing required credential")
            call, request = read_request(self.command, self.path, body)
            if call == "Predict" and len(body) > MAX_PREDICT_BYTES:
                raise google.InvalidArgument(f"The request has {len(body)} bytes, too many")
            answer = self.service.handle(call, request)
            message = answer if hasattr(answer, "SerializeToString") else type(answer).pb(answer)
            self._send(200, json_format.MessageToJson(message))
        except google.GoogleAPICallError as error:
            status = getattr(error.grpc_status_code, "name", "UNKNOWN")
            content = {
                "code": int(error.code or 500),
                "message": error.message,
                "status": status,
                "details": list(error.details),
            }
            self._send(int(error.code or 500), json.dumps({"error": content}))

    def _send(self, status: int, content: str) -> None:
        encoded = content.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    do_GET = do_POST = do_PATCH = do_DELETE = _answer

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def serve_rest(service: VertexService) -> Iterator[str]:
    """The service on a free port; gives its address."""
    handler = type("Handler", (_Handler,), {"service": service})
    with serving(handler) as address:
        yield address
