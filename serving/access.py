"""Who may ask for what: an API key or a token of Google's on every route but health."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from flows.errors import SettingsError
from serving.keys import Keys
from serving.problems import Problem
from serving.settings import ServingSettings
from serving.tokens import Caller, CertificatesUnavailable, TokenRefused, TokenVerifier

T = TypeVar("T")

READY = ("/ready", "/readyz")
"""One route by two names: Cloud Run keeps some paths that end in z for itself."""
HEALTH = ("/healthz", *READY)
PUBSUB = "/v1/trigger/pubsub"
REVIEW = "/review"
PAGES = ("/docs", "/openapi.json", "/metrics", REVIEW)
"""What people open in a browser, which sends a key as the password of HTTP Basic."""
BEARER = 'Bearer realm="onedeal"'
INFRASTRUCTURE = "vertex-ai"
"""The client of requests that Vertex AI passes on: it has checked them itself."""

InThread = Callable[[Callable[[], T]], Coroutine[Any, Any, T]]
"""Runs what waits for the network apart from the event loop."""


class Access:
    """Names the client of each request, or refuses it."""

    def __init__(self, settings: ServingSettings, keys: Keys, in_thread: InThread[Any]) -> None:
        self._settings = settings
        self._keys = keys
        self._in_thread = in_thread
        container = settings.container
        self._open = {*HEALTH, *([container.health_route] if container else [])}
        self._passed_on = container.predict_route if container else None
        needs_tokens = settings.oidc_audience or settings.pubsub_audience
        self._tokens = TokenVerifier(settings.certificates_url) if needs_tokens else None

    async def client(self, method: str, path: str, authorization: str) -> str | None:
        """Who asks; None on the routes of health. Raises Problem (401, 403, 503)."""
        if path in self._open:
            return None
        if path == PUBSUB:
            return await self._pubsub(authorization)
        if path == self._passed_on and not authorization:
            return INFRASTRUCTURE
        scheme, _, credentials = authorization.partition(" ")
        # Bytes, of which HTTP knows no more: UTF-8, as a key in the environment is.
        key = credentials.strip().encode("latin-1").decode("utf-8", "replace")
        is_page = path in PAGES and (method in ("GET", "HEAD") or path == REVIEW)
        if scheme.lower() == "basic" and is_page:
            key = _name_and_password(key)[1]
        elif scheme.lower() != "bearer":
            key = ""
        if not key:
            raise self._unauthorized(path, "It has no key")
        try:
            found = self._keys.client(key)
        except SettingsError as error:
            raise Problem(503, "The file of keys can't be read, so none opens.") from error
        if found is not None:
            return found
        if self._settings.oidc_audience and key.count(".") == 2:
            caller = await self._verified(key, self._settings.oidc_audience, path)
            if caller.email not in self._settings.oidc_emails:
                raise Problem(403, "The token's e-mail is none of ONEDEAL_OIDC_EMAILS.")
            # Google's number for the account: the log names no person.
            return f"google:{caller.subject}"
        raise self._unauthorized(path, "Its key is unknown or revoked")

    async def _pubsub(self, authorization: str) -> str:
        """Only Pub/Sub itself starts runs, with the account that its subscription names."""
        audience = self._settings.pubsub_audience
        if not audience:
            raise self._unauthorized(
                PUBSUB,
                "No push messages are taken: ONEDEAL_PUBSUB_AUDIENCE is not set",
            )
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise self._unauthorized(PUBSUB, "It has no token of Pub/Sub's")
        caller = await self._verified(token.strip(), audience, PUBSUB)
        if caller.email != self._settings.pubsub_email:
            raise Problem(403, "The token's e-mail is not that of ONEDEAL_PUBSUB_EMAIL.")
        return "pubsub"

    async def _verified(self, token: str, audience: str, path: str) -> Caller:
        tokens = self._tokens
        assert tokens is not None
        known = tokens.known(token, audience)
        if known is not None:
            return known
        try:
            caller: Caller = await self._in_thread(lambda: tokens.verify(token, audience))
        except TokenRefused as error:
            raise self._unauthorized(path, f"Its token is refused: {error}") from None
        except CertificatesUnavailable:
            raise Problem(
                503,
                "Google's certificates can't be fetched, so no token can be checked. Try again.",
                headers={"Retry-After": "5"},
            ) from None
        return caller

    def _unauthorized(self, path: str, reason: str) -> Problem:
        wanted = (
            "Send the token of Pub/Sub's own push authentication."
            if path == PUBSUB
            else "Send `Authorization: Bearer KEY` with a key of `onedeal keys create NAME`."
        )
        # Only where a person may look does the browser ask for a password.
        challenge = 'Basic realm="onedeal", charset="UTF-8"' if path in PAGES else BEARER
        return Problem(
            401, f"{reason.rstrip('.')}. {wanted}", headers={"WWW-Authenticate": challenge}
        )


def basic_name(authorization: str) -> str:
    """The name beside a password of HTTP Basic; empty where there is none."""
    scheme, _, credentials = authorization.partition(" ")
    return _name_and_password(credentials.strip())[0] if scheme.lower() == "basic" else ""


def _name_and_password(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    name, _, password = text.partition(":")
    return name.strip(), password.strip()
