"""HTTP as uvicorn and httptools speak it, with limits on a request: its head's size, its time.

Without them a client could fill the memory with headers, or hold connections open with half a
request. The limits of a body that is read are the guard's (`serving.guard`); here is that of one
whose request was answered without it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
"""Of what is no body: a head, and what may stand behind a body in chunks as a head does."""
HEAD_SECONDS = 15.0
BODY_SECONDS = 30.0
"""More than the guard takes to say that a body did not come in time."""


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request has too long a head, or takes too long to come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes = 0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._wait(HEAD_SECONDS)

    def data_received(self, data: bytes) -> None:
        """Count what came before the parser keeps it, less what turns out to be of a body."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MAX_HEAD_BYTES:
            self._give_up()
        # It ended uvicorn's wait for the next request, even where it begins none: the rest of a
        # body that nobody reads, or line breaks.
        if self._timer is None and self.cycle is not None and self.cycle.response_complete:
            self._wait(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """A request begins, perhaps in the middle of what came."""
        super().on_message_begin()
        if self._timer is None:
            self._wait(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_bytes = 0
        self._wait(BODY_SECONDS)
        super().on_headers_complete()

    def on_chunk_header(self) -> None:
        """A piece of the body begins, or has ended them with its length of 0."""
        self._head_bytes = 0

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._head_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._stop_timer()
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop_timer()
        super().connection_lost(exc)

    def _wait(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._give_up)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()
