"""The token bucket, and the circuit breaker."""

from __future__ import annotations

import pytest

from serving.breaker import FAILURES, CircuitBreaker
from serving.limits import MAX_CLIENTS, RateLimit
from serving.problems import Problem


def test_a_client_has_its_rate_and_two_seconds_of_it_at_once() -> None:
    limit = RateLimit(10)
    assert sum(limit.take("a", now=0.0) == 0 for _ in range(50)) == 20
    assert limit.take("a", now=0.0) == pytest.approx(0.1)
    assert sum(limit.take("b", now=0.0) == 0 for _ in range(50)) == 20
    assert sum(limit.take("a", now=1.0) == 0 for _ in range(50)) == 10


def test_more_than_a_bucket_holds_passes_when_it_is_full() -> None:
    limit = RateLimit(10)
    assert limit.take("a", 100, now=0.0) == 0
    # It owes 80.
    assert limit.take("a", 1, now=7.0) > 0
    assert limit.take("a", 1, now=8.2) == 0


def test_as_many_deals_as_a_request_holds_pass_at_any_rate() -> None:
    for rate in (0.1, 1, 10, 49):
        limit = RateLimit(rate)
        # The first one is counted before the request is read.
        assert limit.take("a", 1, now=0.0) == 0
        assert limit.take("a", 99, now=0.01) == 0
        assert limit.take("a", 1, now=0.01) > 0
        assert limit.take("a", 1, now=0.01 + 100 / rate) == 0


def test_clients_are_not_remembered_for_ever() -> None:
    limit = RateLimit(10)
    for number in range(MAX_CLIENTS):
        limit.take(str(number), now=0.0)
    limit.take("one more", now=60.0)
    assert len(limit._buckets) == 1


def test_what_is_said_to_who_asks_too_much() -> None:
    limit = RateLimit(1)
    limit.demand("a", 2)
    with pytest.raises(Problem, match="1 deals a second") as told:
        limit.demand("a")
    assert told.value.status == 429 and int(told.value.headers["Retry-After"]) >= 1


def test_a_breaker_opens_tries_again_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("serving.breaker.time.monotonic", lambda: now[0])
    breaker = CircuitBreaker()
    for _ in range(FAILURES - 1):
        assert breaker.allows()
        breaker.failed()
    assert breaker.allows()
    breaker.succeeded()
    for _ in range(FAILURES):
        assert breaker.allows()
        breaker.failed()
    assert breaker.is_resting and not breaker.allows()
    # One is let through after the rest; it fails, so the next rest is twice as long. Before it is
    # sent nothing rests: who sends requests to those that are ready would never send it.
    now[0] = 5.0
    assert not breaker.is_resting
    assert breaker.allows() and not breaker.allows() and breaker.is_resting
    breaker.failed()
    assert breaker.is_resting
    now[0] = 14.9
    assert not breaker.allows()
    now[0] = 15.0
    assert breaker.allows()
    # One that was under way when it opened does not count against it.
    breaker.succeeded()
    assert not breaker.is_resting and breaker.allows()
