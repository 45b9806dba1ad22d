"""What stands before every route: key, limits, body, headers, metrics, one line of log.

One ASGI application around another, not a chain of middleware: each link would cost every request.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

from serving.access import Access
from serving.limits import RateLimit
from serving.metrics import Metrics
from serving.problems import Problem
from serving.settings import ServingSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LOGGER = logging.getLogger("onedeal.serving")
JSON = b"application/json"
UNFORESEEN = "Something went wrong here; where, stands in the service's log."
MAX_DRAINED = 64 * 1024 * 1024
"""Bytes of a body that is too large that are read and thrown away, so that its sender, who may
write before it reads, gets to see why."""
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
    (b"strict-transport-security", b"max-age=31536000"),
    (
        b"content-security-policy",
        b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; "
        b"form-action 'none'",
    ),
)


class Disconnected(Exception):
    """The client went away before it had sent its request."""


class Guard:
    """Lets a request through to `app`, whole and with a client's name, or answers it itself.

    `scope["state"]` then holds `request_id`, `client` (None on the routes of health), and
    `started_at` (of `time.perf_counter`). paths: those that the application has.
    """

    def __init__(
        self,
        app: App,
        settings: ServingSettings,
        access: Access,
        limit: RateLimit,
        metrics: Metrics,
        paths: frozenset[str],
    ) -> None:
        self._app = app
        self._settings = settings
        self._access = access
        self._limit = limit
        self._metrics = metrics
        self._paths = paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._http(scope, receive, send)
        else:
            # A websocket: there is none here.
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started_at = time.perf_counter()
        request_id = uuid.uuid4().hex
        answered = 0
        client: str | None = None

        async def send_with_headers(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start":
                answered = message["status"]
                given = list(message.get("headers", ()))
                names = {name for name, _ in given}
                # A page may have reasons for one of its own.
                added = [one for one in HEADERS if one[0] not in names]
                message["headers"] = [*given, *added, (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            headers = _headers(scope)
            client = await self._access.client(
                scope["method"], scope["path"], headers.get(b"authorization", "")
            )
            if client is not None:
                self._limit.demand(client)
            if scope["path"] not in self._paths:
                # The router would take a path with a line break behind it for the path without.
                raise Problem(404, "There is no such route. See /docs.")
            body = b""
            if scope["method"] not in ("GET", "HEAD"):
                body = await self._body(headers, receive)
            state = {"request_id": request_id, "client": client, "started_at": started_at}
            scope["state"] = {**scope.get("state", {}), **state}
            await self._app(scope, _replay(body, receive), send_with_headers)
        except Problem as problem:
            await _answer(problem, request_id, send_with_headers)
        except Disconnected:
            answered = 499
        except Exception as error:
            _log_unexpected(error, request_id)
            if not answered:
                await _answer(Problem(500, UNFORESEEN), request_id, send_with_headers)
        finally:
            seconds = time.perf_counter() - started_at
            # What is refused here never came to the application's own routes.
            route = scope["path"] if scope["path"] in self._paths else "other"
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._metrics.requests.labels(route, method, str(answered)).inc()
            self._metrics.seconds.labels(route).observe(seconds)
            log(
                "request",
                method=method,
                route=route,
                status=answered,
                ms=round(seconds * 1000, 2),
                client=client,
                request_id=request_id,
            )

    async def _body(self, headers: dict[bytes, str], receive: Receive) -> bytes:
        limit = self._settings.max_body_bytes
        if headers.get(b"content-encoding", "identity") != "identity":
            raise Problem(415, "The body is compressed; send it as it is.")
        chunks: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Disconnected
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= limit:
                        chunks.append(chunk)
                    else:
                        chunks.clear()
                    if not message.get("more_body", False) or size > limit + MAX_DRAINED:
                        break
        except TimeoutError:
            raise Problem(
                408,
                f"The body did not come within {self._settings.body_seconds:g} s.",
                headers={"Connection": "close"},
            ) from None
        if size > limit:
            raise Problem(
                413,
                f"The body has more than {limit:,} bytes. Send fewer deals at once.",
                headers={"Connection": "close"},
            )
        return b"".join(chunks)


METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def log(event: str, *, level: int = logging.INFO, **fields: object) -> None:
    """A line of JSON; with names of routes and clients, never with what a request held."""
    if LOGGER.isEnabledFor(level):
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        told = {"time": now, "severity": logging.getLevelName(level), "event": event, **fields}
        LOGGER.log(level, json.dumps(told, default=str))


def _log_unexpected(error: Exception, request_id: str) -> None:
    """Where it happened and of what kind; not its message, which may repeat a deal's values."""
    where = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    log(
        "error",
        level=logging.ERROR,
        error=type(error).__name__,
        where=where[-12:],
        request_id=request_id,
    )


def _headers(scope: Scope) -> dict[bytes, str]:
    return {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body as one message; after it, what the client does then."""
    is_given = False

    async def replay() -> Message:
        nonlocal is_given
        if is_given:
            return await receive()
        is_given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _answer(problem: Problem, request_id: str, send: Send) -> None:
    body = problem.body(request_id)
    headers = [
        (b"content-type", JSON),
        (b"content-length", str(len(body)).encode()),
        *((k.lower().encode(), v.encode()) for k, v in problem.headers.items()),
    ]
    await send({"type": "http.response.start", "status": problem.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
