"""How much a client may ask: a token bucket for each."""

from __future__ import annotations

import time

from serving.problems import Problem

MAX_CLIENTS = 10_000
BURST_SECONDS = 2.0


class RateLimit:
    """Lets each client have `rate` units a second, and what it saved up of two seconds at once.

    Of one thread only: that of the event loop.
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._burst = max(rate * BURST_SECONDS, 1.0)
        self._buckets: dict[str, tuple[float, float]] = {}

    def demand(self, client: str, units: float = 1.0) -> None:
        """Take units from the client's bucket. Raises Problem (429) where there are too few."""
        wait = self.take(client, units)
        if wait:
            raise Problem(
                429,
                f"More than {self._rate:g} deals a second; try again in {wait:.1f} s.",
                headers={"Retry-After": str(int(wait) + 1)},
            )

    def take(self, client: str, units: float = 1.0, now: float | None = None) -> float:
        """Take units from the client's bucket; 0, or the seconds after which there are enough.

        More than a bucket holds is taken from a full one, which then is empty for longer. Of
        several units the first was taken before, with the request that they came in.
        """
        now = time.monotonic() if now is None else now
        held, at = self._buckets.get(client, (self._burst, now))
        held = min(self._burst, held + (now - at) * self._rate)
        needed = units if units <= 1 else min(units, self._burst - 1)
        if held < needed:
            return (needed - held) / self._rate
        if len(self._buckets) >= MAX_CLIENTS and client not in self._buckets:
            # Whoever has not come for two seconds has a full bucket, and need not be remembered.
            full = now - BURST_SECONDS
            self._buckets = {k: v for k, v in self._buckets.items() if v[1] > full}
        self._buckets[client] = (held - units, now)
        return 0.0
