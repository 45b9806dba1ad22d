"""Tokens of Google's identity platform (OIDC): who sent a request, proven by a signature.

Pub/Sub sends one with each push, and Cloud Run's callers may come with one in place of a key.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from flows.errors import SettingsError

if TYPE_CHECKING:
    import requests

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
CLOCK_SKEW_SECONDS = 10
FETCH_SECONDS = 5.0
REFETCH_SECONDS = 60.0
"""How soon certificates are fetched anew for a key that they lack: keys change every few days."""
FAILED_SECONDS = 5.0
"""For how long a fetch that failed is not tried again: each try may take as long as a time-out."""
DEFAULT_AGE = 3600.0
MAX_REMEMBERED = 1000
MALFORMED = (ValueError, TypeError, AttributeError, KeyError, RecursionError)
"""What the library raises for tokens that are none: their parts may be any JSON."""


class TokenRefused(Exception):
    """The token does not prove what it should; the message tells its sender why."""


class CertificatesUnavailable(Exception):
    """Google's certificates can't be fetched, so nothing can be proven now."""


@dataclass(frozen=True)
class Caller:
    """Whom a token proves. subject: Google's number for the account; it names nobody."""

    subject: str
    email: str
    expires_at: float


class TokenVerifier:
    """Checks signature, issuer, times, audience and e-mail. Certificates are kept while they last.

    Thread-safe. `verify` may wait for the network, so it is not for the event loop.
    """

    def __init__(self, certificates_url: str) -> None:
        try:
            import google.oauth2.id_token  # noqa: F401
        except ImportError as error:
            raise SettingsError(
                "Tokens of Google's can be checked only with google-auth, which is not installed. "
                "Install onedeal's extra `gcp`, or unset ONEDEAL_OIDC_AUDIENCE and "
                "ONEDEAL_PUBSUB_AUDIENCE."
            ) from error
        self._certificates = _Certificates(certificates_url)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[tuple[str, str], Caller] = OrderedDict()

    def known(self, token: str, audience: str) -> Caller | None:
        """Whom a token proves that was checked before and holds still; never waits."""
        with self._lock:
            caller = self._remembered.get((_digest(token), audience))
        return caller if caller is not None and caller.expires_at > time.time() else None

    def verify(self, token: str, audience: str) -> Caller:
        """Raises TokenRefused, or CertificatesUnavailable; of the e-mail, that Google verified it.

        Whether that e-mail may do what it asks is for the caller of this to say.
        """
        from google.auth import exceptions as google
        from google.oauth2 import id_token

        # It is called as google-auth calls its transports.
        certificates: Any = self._certificates

        def check() -> Any:
            return id_token.verify_token(
                token,
                certificates,
                audience=audience,
                certs_url=self._certificates.url,
                clock_skew_in_seconds=CLOCK_SKEW_SECONDS,
            )

        try:
            try:
                claims = check()
            except (ValueError, google.GoogleAuthError) as error:
                # google-auth says so for a key that the certificates lack: perhaps it is new.
                if "ertificate for key id" not in str(error) or not self._certificates.renew():
                    raise
                claims = check()
        except (google.TransportError, CertificatesUnavailable) as error:
            raise CertificatesUnavailable(str(error)) from error
        except (*MALFORMED, google.GoogleAuthError) as error:
            # The library repeats the whole token in some of its messages.
            reason = str(error).replace(token, "...")
            raise TokenRefused(re.sub(r"\s+", " ", reason)[:200]) from error
        try:
            caller = _caller(claims)
        except MALFORMED as error:
            raise TokenRefused("It lacks sub, or its times are no numbers.") from error
        with self._lock:
            self._remembered[_digest(token), audience] = caller
            while len(self._remembered) > MAX_REMEMBERED:
                self._remembered.popitem(last=False)
        return caller


def _caller(claims: Any) -> Caller:
    if claims.get("iss") not in ISSUERS:
        raise TokenRefused("Its issuer is not Google.")
    if not claims.get("email") or claims.get("email_verified") is not True:
        raise TokenRefused("It has no verified e-mail: ask for it with the claim `email`.")
    return Caller(str(claims["sub"]), str(claims["email"]).lower(), float(claims["exp"]))


class _Certificates:
    """Google's certificates, in the form in which google-auth asks for them."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._lock = threading.Lock()
        self._answer: _Answer | None = None
        self._until = 0.0
        self._fetched_at = float("-inf")
        self._failure = ""
        self._failed_at = float("-inf")
        self._session: requests.Session | None = None

    def __call__(self, url: str, method: str = "GET", **_: Any) -> _Answer:
        """The certificates; one fetch for all that ask at once."""
        with self._lock:
            if self._answer is None or time.monotonic() >= self._until:
                self._fetch()
            assert self._answer is not None
            return self._answer

    def renew(self) -> bool:
        """Fetch them although they last still; False where that was done a moment ago."""
        with self._lock:
            if time.monotonic() < self._fetched_at + REFETCH_SECONDS:
                return False
            self._fetch()
            return True

    def _fetch(self) -> None:
        if time.monotonic() < self._failed_at + FAILED_SECONDS:
            # All who waited meanwhile are told at once, not one after the other.
            raise CertificatesUnavailable(self._failure)
        try:
            self._ask()
        except CertificatesUnavailable as error:
            self._failure, self._failed_at = str(error), time.monotonic()
            raise

    def _ask(self) -> None:
        import requests

        self._session = self._session or requests.Session()
        try:
            answer = self._session.get(self.url, timeout=FETCH_SECONDS)
        except requests.RequestException as error:
            raise CertificatesUnavailable(f"{self.url}: {type(error).__name__}") from error
        if answer.status_code != 200:
            raise CertificatesUnavailable(f"{self.url} answers {answer.status_code}")
        told = re.search(r"max-age=(\d+)", answer.headers.get("Cache-Control", ""))
        self._fetched_at = time.monotonic()
        self._until = self._fetched_at + (float(told[1]) if told else DEFAULT_AGE)
        self._answer = _Answer(answer.status_code, answer.content, dict(answer.headers))


@dataclass(frozen=True)
class _Answer:
    """What google-auth expects of a transport."""

    status: int
    data: bytes
    headers: dict[str, str]


def _digest(token: str) -> str:
    return sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
