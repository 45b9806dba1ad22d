"""HTTP as uvicorn and httptools speak it, with limits on a request's head: its size, its time.

Without them a client could fill the memory with headers, or hold connections open with half a
request. The body's limits are the guard's (`serving.guard`).
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_SECONDS = 15.0


class LimitedProtocol(HttpToolsProtocol):
    """Closes a connection whose request's head is too long, or takes too long to come."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._head_bytes: int | None = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Count what came before the parser keeps it."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        # What came together with the head, of the body, is no part of it.
        if self._head_bytes is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._give_up()

    def on_message_begin(self) -> None:
        """A request begins, perhaps in the middle of what came."""
        super().on_message_begin()
        self._head_bytes = self._head_bytes or 0
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head_bytes = None
        self._stop_timer()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop_timer()
        super().connection_lost(exc)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._stop_timer()
        if not self.transport.is_closing():
            self.transport.close()
