"""The settings of the prediction service: environment variables, read and checked once.

docs/serving.md describes each. What has to do with the installation (`ONEDEAL_HOME`,
`ONEDEAL_TARGET`) is in `flows.settings`; what has to do with Vertex AI's endpoint is in dbt's
profile (`flows.vertex`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from flows.errors import SettingsError

T = TypeVar("T")

GOOGLE_CERTIFICATES = "https://www.googleapis.com/oauth2/v1/certs"


@dataclass(frozen=True)
class VertexContainer:
    """What Vertex AI tells a container that it runs: its `AIP_*` variables.

    storage_uri: where the bundle lies, `gs://...` or a path; empty where it told none.
    """

    port: int
    predict_route: str
    health_route: str
    storage_uri: str = ""


@dataclass(frozen=True)
class ServingSettings:
    """How the service answers.

    api_key: a first key, beside those of `onedeal keys`. match_floor: the probability from which on
    a pair is part of an answer. rate_limit: deals a second and client. max_body_bytes: of a
    request. oidc_*: who may come with a token of Google's instead of a key. pubsub_*: whose push
    messages are taken. prefect_deployment: where `retrain` runs; empty for a process of its own.
    endpoint_seconds: how long Vertex AI's endpoint may take. delivery_seconds: between deliveries
    of log and verdicts; None as it suits the target. container: set behind Vertex AI.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    api_key: str = ""
    match_floor: float = 0.1
    rate_limit: float = 200.0
    max_body_bytes: int = 2 * 1024 * 1024
    body_seconds: float = 15.0
    max_waiting: int = 256
    oidc_audience: str = ""
    oidc_emails: frozenset[str] = frozenset()
    pubsub_audience: str = ""
    pubsub_email: str = ""
    certificates_url: str = GOOGLE_CERTIFICATES
    prefect_deployment: str = ""
    prefect_api_url: str = ""
    prefect_api_key: str = ""
    endpoint_seconds: float = 2.0
    delivery_seconds: float | None = None
    container: VertexContainer | None = None

    @classmethod
    def from_env(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        host: str | None = None,
        port: int | None = None,
    ) -> ServingSettings:
        """Read the environment; `host` and `port` win over it.

        Raises SettingsError that names the variable, what is allowed, and what it is.
        """
        env = os.environ if environ is None else environ
        container = _container(env)
        default_host = "0.0.0.0" if container else "127.0.0.1"
        default_port = container.port if container else _read(env, "PORT", 8080, _port, PORTS)
        emails = env.get("ONEDEAL_OIDC_EMAILS", "")
        found = cls(
            host=host or env.get("ONEDEAL_HOST") or default_host,
            port=default_port if port is None else port,
            api_key=env.get("ONEDEAL_API_KEY", "").strip(),
            match_floor=_read(env, "ONEDEAL_MATCH_FLOOR", 0.1, _share, "a number from 0 to 1"),
            rate_limit=_read(env, "ONEDEAL_RATE_LIMIT", 200.0, _positive, "a number above 0"),
            max_body_bytes=_read(
                env, "ONEDEAL_MAX_BODY_BYTES", cls.max_body_bytes, _bytes, "a number above 1023"
            ),
            oidc_audience=env.get("ONEDEAL_OIDC_AUDIENCE", ""),
            oidc_emails=frozenset(e.strip().lower() for e in emails.split(",") if e.strip()),
            pubsub_audience=env.get("ONEDEAL_PUBSUB_AUDIENCE", ""),
            pubsub_email=env.get("ONEDEAL_PUBSUB_EMAIL", "").strip().lower(),
            certificates_url=env.get("ONEDEAL_OIDC_CERTIFICATES") or GOOGLE_CERTIFICATES,
            prefect_deployment=_read(
                env, "ONEDEAL_PREFECT_DEPLOYMENT", "", _deployment, "flow/deployment"
            ),
            prefect_api_url=env.get("PREFECT_API_URL", "").rstrip("/"),
            prefect_api_key=env.get("PREFECT_API_KEY", ""),
            endpoint_seconds=_read(
                env, "ONEDEAL_ENDPOINT_SECONDS", 2.0, _positive, "a number above 0"
            ),
            delivery_seconds=_read(
                env, "ONEDEAL_DELIVERY_SECONDS", None, _pause, "a number from 1 to 3600"
            ),
            container=container,
        )
        _check(found)
        return found


PORTS = "a whole number from 0 to 65535"


def _container(env: Mapping[str, str]) -> VertexContainer | None:
    """Vertex AI sets all three; one alone means nothing, so that no route opens by accident."""
    names = ("AIP_HTTP_PORT", "AIP_PREDICT_ROUTE", "AIP_HEALTH_ROUTE")
    if not all(env.get(name) for name in names):
        return None
    return VertexContainer(
        port=_read(env, "AIP_HTTP_PORT", 8080, _port, PORTS),
        predict_route=_read(env, "AIP_PREDICT_ROUTE", "/predict", _route, ROUTES),
        health_route=_read(env, "AIP_HEALTH_ROUTE", "/healthz", _route, ROUTES),
        storage_uri=env.get("AIP_STORAGE_URI", ""),
    )


ROUTES = "a path that begins with / and is none that needs a key"
KEYED = (
    *("/v1/match", "/v1/verdicts", "/v1/trigger", "/review"),
    *("/metrics", "/docs", "/openapi.json"),
)


def _check(found: ServingSettings) -> None:
    pairs = {
        "ONEDEAL_OIDC_AUDIENCE": found.oidc_audience,
        "ONEDEAL_OIDC_EMAILS": found.oidc_emails,
        "ONEDEAL_PUBSUB_AUDIENCE": found.pubsub_audience,
        "ONEDEAL_PUBSUB_EMAIL": found.pubsub_email,
    }
    names = list(pairs)
    for first, second in ((names[0], names[1]), (names[2], names[3])):
        if bool(pairs[first]) != bool(pairs[second]):
            given, lacking = (first, second) if pairs[first] else (second, first)
            raise SettingsError(f"{given} is set and {lacking} is not; set both, or neither.")
    if found.prefect_deployment and not found.prefect_api_url:
        raise SettingsError(
            "ONEDEAL_PREFECT_DEPLOYMENT is set and PREFECT_API_URL is not; set both, or neither."
        )


def _read(
    env: Mapping[str, str], name: str, default: T, convert: Callable[[str], T], allowed: str
) -> T:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        return convert(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}; it must be {allowed}.") from error


def _port(text: str) -> int:
    return int(_within(float(int(text)), 0, 65535))


def _share(text: str) -> float:
    return _within(float(text), 0, 1)


def _positive(text: str) -> float:
    return _within(float(text), 1e-6, 1e9)


def _pause(text: str) -> float:
    return _within(float(text), 1, 3600)


def _bytes(text: str) -> int:
    return int(_within(float(int(text)), 1024, 1e9))


def _within(number: float, low: float, high: float) -> float:
    if not low <= number <= high:
        raise ValueError(number)
    return number


def _route(text: str) -> str:
    if not re.fullmatch(r"/[\w./:@-]*", text) or text.startswith(KEYED):
        raise ValueError(text)
    return text


def _deployment(text: str) -> str:
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", text):
        raise ValueError(text)
    return text
