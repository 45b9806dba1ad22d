"""A circuit breaker: what fails again and again is left alone for a while."""

from __future__ import annotations

import threading
import time

FAILURES = 3
FIRST_REST_SECONDS = 5.0
LONGEST_REST_SECONDS = 60.0


class CircuitBreaker:
    """Closed at first. After FAILURES in a row it opens: for a rest nothing is let through.

    Then one call is let through: if it succeeds all are, if it fails the rest begins anew, twice as
    long. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._failures = 0
        self._rest = FIRST_REST_SECONDS
        self._open_until: float | None = None
        self._is_trying = False

    def allows(self) -> bool:
        """Whether to make a call now; who makes it says how it ended."""
        with self._lock:
            if self._open_until is None:
                return True
            if self._is_trying or time.monotonic() < self._open_until:
                return False
            self._is_trying = True
            return True

    def succeeded(self) -> None:
        """A call was answered."""
        with self._lock:
            self._failures, self._rest = 0, FIRST_REST_SECONDS
            self._open_until, self._is_trying = None, False

    def failed(self) -> None:
        """A call failed."""
        with self._lock:
            self._failures += 1
            if self._open_until is not None:
                if not self._is_trying:
                    # One of those that were under way when it opened.
                    return
                self._rest = min(self._rest * 2, LONGEST_REST_SECONDS)
            elif self._failures < FAILURES:
                return
            self._open_until, self._is_trying = time.monotonic() + self._rest, False

    @property
    def is_resting(self) -> bool:
        """Whether calls are kept back; not once the rest is over, or nobody would send the next."""
        with self._lock:
            if self._open_until is None:
                return False
            return self._is_trying or time.monotonic() < self._open_until
