"""What the service refuses, and how it says so.

::

    {"error": {"code": "invalid", "message": "deal.amount is 'abc'; it must be a number.",
               "fields": [{"field": "deal.amount", "message": "..."}]},
     "request_id": "..."}

`fields` is there where fields are at fault. Nothing of a message goes into logs or metrics: it may
repeat what the client sent.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

CODES = {
    400: "bad_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_requests",
    500: "internal",
    503: "unavailable",
}
"""The word for each status that the service answers with."""


@dataclass(frozen=True)
class FieldProblem:
    """A field of the request, such as `deals.3.amount`, and what is wrong with it."""

    field: str
    message: str


class Problem(Exception):
    """An answer other than success: status, message, the fields at fault, and more headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        fields: Sequence[FieldProblem] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.fields = tuple(fields)
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> bytes:
        """The answer's JSON."""
        error: dict[str, object] = {"code": CODES[self.status], "message": self.message}
        if self.fields:
            error["fields"] = [{"field": f.field, "message": f.message} for f in self.fields]
        return json.dumps({"error": error, "request_id": request_id}).encode()
