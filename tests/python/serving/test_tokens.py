"""Tokens of Google's: which prove something, and what they cost Google's server."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from serving import tokens
from serving.tokens import CertificatesUnavailable, TokenRefused, TokenVerifier
from tests.python.serving.google_stand_in import (
    AUDIENCE,
    EMAIL,
    Google,
    serve_certificates,
    token,
)


@pytest.fixture
def google() -> Iterator[Google]:
    with serve_certificates() as found:
        yield found


def test_a_good_token_names_its_account(google: Google) -> None:
    verifier = TokenVerifier(google.url)
    sent = token()
    assert verifier.known(sent, AUDIENCE) is None
    caller = verifier.verify(sent, AUDIENCE)
    assert (caller.subject, caller.email) == ("1234567890", EMAIL)
    assert verifier.known(sent, AUDIENCE) == caller
    assert verifier.known(sent, "https://elsewhere.example") is None


def encoded(part: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (lambda: token(aud="https://elsewhere.example"), "audience"),
        (lambda: token(exp=int(time.time()) - 60, iat=int(time.time()) - 120), "expired"),
        (lambda: token(iat=int(time.time()) + 600, exp=int(time.time()) + 1200), "early"),
        (lambda: token(iss="https://accounts.elsewhere.example"), "issuer"),
        (lambda: token(email_verified=False), "verified"),
        (lambda: token(email_verified="true"), "verified"),
        (lambda: token(email=None), "verified"),
        (lambda: token(sub=None), "lacks"),
        (lambda: token("k2", named="k1"), "signature"),
        (lambda: token("k2"), "not found"),
        (lambda: token()[:-4] + "AAAA", "signature"),
        (lambda: f"{encoded({'alg': 'none'})}.{token().split('.')[1]}.", "algorithm"),
        (lambda: f"{encoded(['alg'])}.{encoded([])}.e30", ""),
        (lambda: "not.a.token", ""),
        (lambda: "..", ""),
    ],
)
def test_what_proves_nothing(google: Google, sent: Any, reason: str) -> None:
    with pytest.raises(TokenRefused, match=f"(?i){reason}") as refused:
        TokenVerifier(google.url).verify(sent(), AUDIENCE)
    assert sent()[:40] not in str(refused.value)


def test_a_clock_may_be_some_seconds_off(google: Google) -> None:
    now = int(time.time())
    assert TokenVerifier(google.url).verify(token(iat=now + 5, exp=now + 3600), AUDIENCE)


def test_certificates_are_fetched_once_and_anew_for_a_new_key(
    google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = TokenVerifier(google.url)
    for number in range(20):
        verifier.verify(token(jti=str(number)), AUDIENCE)
    assert google.asked == 1
    # Google's keys have changed.
    google.keys = ["k2"]
    with pytest.raises(TokenRefused, match="not found"):
        verifier.verify(token("k2"), AUDIENCE)
    assert google.asked == 1, "keys that nobody knows make no requests"
    monkeypatch.setattr(tokens, "REFETCH_SECONDS", 0.0)
    assert verifier.verify(token("k2"), AUDIENCE).email == EMAIL
    assert google.asked == 2


def test_without_certificates_nothing_is_proven(google: Google) -> None:
    google.status = 500
    with pytest.raises(CertificatesUnavailable):
        TokenVerifier(google.url).verify(token(), AUDIENCE)


def test_what_failed_a_moment_ago_is_not_tried_again(
    google: Google, monkeypatch: pytest.MonkeyPatch
) -> None:
    verifier = TokenVerifier(google.url)
    google.status = 500
    for _ in range(5):
        with pytest.raises(CertificatesUnavailable, match="answers 500"):
            verifier.verify(token(), AUDIENCE)
    assert google.asked == 1
    google.status = 200
    monkeypatch.setattr(tokens, "FAILED_SECONDS", 0.0)
    assert verifier.verify(token(), AUDIENCE).email == EMAIL
