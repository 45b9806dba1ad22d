"""Vertex AI: whether the target serves there, with which settings, and how it is reached.

The settings stand in dbt's profile, in the part `vertex` of a BigQuery target, beside the project
and the sign-in. A target without that part has nothing to do with Vertex AI.

Google's client takes seconds to import, so it is imported where a client is made, and nowhere else.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from flows.errors import SettingsError
from flows.profile import bigquery_credentials, target_part, target_type
from flows.settings import Settings

if TYPE_CHECKING:
    from dbt.adapters.bigquery.credentials import BigQueryCredentials
    from google.api_core.retry import Retry
    from google.cloud import aiplatform_v1 as v1
    from google.protobuf.struct_pb2 import Value

T = TypeVar("T")

REGIONS = {"EU": "europe-west4", "US": "us-central1"}
"""Where models of BigQuery's multi-regions are registered."""

NATIVE, PORTABLE = "bigquery", "export"
PATHS = (NATIVE, PORTABLE)
SQL, JOB = "sql", "vertex"
SERVABLE = {
    NATIVE: ("logistic_reg", "boosted_tree_classifier"),
    PORTABLE: ("logistic_reg",),
}
"""Model types that can be served, by the way they are registered."""

MOST_KNOWN_PAIRS = 200
"""All are asked in one request, which Vertex AI limits to 1.5 MB."""
REQUEST_SECONDS = 60.0
REPEAT_SECONDS = 60.0
"""How long a request that may pass is sent again."""


@dataclass(frozen=True)
class VertexSettings:
    """The part `vertex` of the target; docs/vertex-ai.md describes each.

    location: of Vertex AI; by default the region of BigQuery's. registration: `bigquery`, or
    `export` by way of the `bucket`. model_types: those that may become champion. canary_percent:
    the traffic that a new champion gets for soak_minutes. max_*: what a canary may not exceed.
    previous_hours: how long the champion before stays deployed at 0 %. Rates are in USD.
    """

    location: str = ""
    registration: str = NATIVE
    bucket: str = ""
    model_types: tuple[str, ...] = SERVABLE[NATIVE]
    model_id: str = "onedeal"
    endpoint_id: str = "onedeal"
    labels: Mapping[str, str] = field(default_factory=dict)
    machine_type: str = "n1-standard-2"
    min_replicas: int = 1
    max_replicas: int = 1
    canary_percent: int = 10
    soak_minutes: float = 30.0
    check_seconds: float = 60.0
    min_answers: int = 50
    max_error_share: float = 0.01
    max_latency_ms: float = 1000.0
    max_score_shift: float = 0.2
    known_pairs: int = 20
    previous_hours: float = 24.0
    node_hour_rate: float = 0.11
    operation_minutes: float = 60.0
    batch: str = SQL
    api_endpoint: str = ""
    api_transport: str = "rest"


def read_vertex_settings(settings: Settings) -> VertexSettings | None:
    """The target's settings of Vertex AI; None where it does not serve there.

    Raises SettingsError that names the setting, what is allowed, and what it is.
    """
    part = target_part(settings, "vertex")
    if part is None:
        return None
    where = f"part vertex of the dbt profile's target {settings.target!r}"
    if target_type(settings) != "bigquery":
        raise SettingsError(f"{where}: Vertex AI serves models of BigQuery only; take it out.")
    known = {one.name: one for one in fields(VertexSettings)}
    unknown = sorted(set(part) - set(known))
    if unknown:
        raise SettingsError(
            f"{where}: there is no setting {', '.join(unknown)}; there are {', '.join(known)}."
        )
    part = dict(part)
    region = _region(settings)
    part["location"] = str(part.get("location") or region).lower()
    if part.get("registration", NATIVE) == NATIVE and part["location"] != region:
        raise SettingsError(
            f"{where}: location is {part['location']!r}, but BigQuery registers its models in "
            f"{region!r}, by the target's own location. Leave it out, or set registration to "
            f"{PORTABLE}."
        )
    if part.get("registration") == PORTABLE:
        part.setdefault("model_types", SERVABLE[NATIVE])
    for name, value in part.items():
        default = getattr(VertexSettings, name, None)
        kind: Any = float if isinstance(default, float) else type(default)
        if name == "labels":
            if not isinstance(value or {}, Mapping):
                raise SettingsError(f"{where}: labels is {value!r}, not names with a value each.")
            value = {str(k): str(v) for k, v in (value or {}).items()}
        elif name == "model_types":
            if not isinstance(value, list | tuple):
                raise SettingsError(f"{where}: model_types is {value!r}, not a list of types.")
            value = tuple(str(one) for one in value)
        elif kind is int and isinstance(value, float) and not value.is_integer():
            raise SettingsError(f"{where}: {name} is {value!r}, not a whole number.")
        elif kind in (int, float):
            try:
                value = kind(value)
            except (TypeError, ValueError) as error:
                raise SettingsError(f"{where}: {name} is {value!r}, not a number.") from error
        else:
            value = str(value or "")
        part[name] = value
    found = VertexSettings(**part)
    _check(found, where)
    return found


def _region(settings: Settings) -> str:
    location = bigquery_credentials(settings).location or "US"
    return REGIONS.get(location.upper(), location.lower())


def _check(found: VertexSettings, where: str) -> None:
    """Refuse what Vertex AI would refuse only when a model is trained already."""
    checks: list[tuple[str, bool, str]] = [
        ("registration", found.registration in PATHS, f"one of {', '.join(PATHS)}"),
        ("batch", found.batch in (SQL, JOB), f"one of {SQL}, {JOB}"),
        ("api_transport", found.api_transport in ("rest", "grpc"), "one of rest, grpc"),
        (
            "model_id",
            bool(re.fullmatch(r"[a-z_][a-z0-9_-]{0,62}", found.model_id)),
            "up to 63 of a-z, 0-9, _ and -, and does not start with a digit or -",
        ),
        (
            "endpoint_id",
            bool(re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", found.endpoint_id)),
            "up to 63 of a-z, 0-9 and -, starts with a letter, and does not end with -",
        ),
        (
            "labels",
            all(
                re.fullmatch(r"[a-z][a-z0-9_-]{0,62}", k) and re.fullmatch(r"[a-z0-9_-]{0,63}", v)
                for k, v in found.labels.items()
            ),
            "of names and values of up to 63 of a-z, 0-9, _ and -",
        ),
        (
            "labels",
            not any(name == "app" or name.startswith("onedeal") for name in found.labels),
            "of other names than app and onedeal..., which are onedeal's own",
        ),
        ("machine_type", bool(found.machine_type), "the name of a machine type"),
        ("canary_percent", 1 <= found.canary_percent <= 100, "from 1 to 100"),
        ("min_replicas", found.min_replicas >= 1, "at least 1"),
        ("max_replicas", found.max_replicas >= found.min_replicas, "at least min_replicas"),
        (
            "known_pairs",
            1 <= found.known_pairs <= MOST_KNOWN_PAIRS,
            f"from 1 to {MOST_KNOWN_PAIRS}",
        ),
        ("min_answers", found.min_answers >= 1, "at least 1"),
        *(
            (name, 0 < getattr(found, name) < math.inf, "more than 0")
            for name in ("check_seconds", "operation_minutes", "max_latency_ms")
        ),
        *(
            (name, 0 <= getattr(found, name) < math.inf, "0 or more")
            for name in ("soak_minutes", "previous_hours", "node_hour_rate")
        ),
        *(
            (name, 0 <= getattr(found, name) <= 1, "from 0 to 1")
            for name in ("max_error_share", "max_score_shift")
        ),
        (
            "bucket",
            found.registration != PORTABLE or bool(found.bucket),
            "the Cloud Storage bucket that models are exported to, with registration: export",
        ),
    ]
    for name, holds, allowed in checks:
        if not holds:
            raise SettingsError(
                f"{where}: {name} is {getattr(found, name)!r}; it must be {allowed}."
            )
    allowed_types = SERVABLE[found.registration]
    wrong = [one for one in found.model_types if one not in allowed_types]
    if wrong or not found.model_types:
        raise SettingsError(
            f"{where}: registration: {found.registration} can't serve models of the type "
            f"{', '.join(wrong) or 'none'}. Set model_types to some of {', '.join(allowed_types)}"
            + (
                f", or registration to {NATIVE}."
                if found.registration == PORTABLE and wrong
                else "."
            )
        )


class Vertex:
    """Clients of Vertex AI, and the names of what onedeal has there.

    Every answer is read anew: nothing of the service's state is kept here.
    """

    def __init__(
        self, settings: VertexSettings, credentials: BigQueryCredentials, target: str
    ) -> None:
        self.settings = settings
        self.target = target
        self._credentials = credentials
        self.project = str(credentials.database)
        self.parent = f"projects/{self.project}/locations/{settings.location}"
        self.model = f"{self.parent}/models/{settings.model_id}"
        self.endpoint = f"{self.parent}/endpoints/{settings.endpoint_id}"

    @cached_property
    def models(self) -> v1.ModelServiceClient:
        """The client of the registry."""
        from google.cloud.aiplatform_v1 import ModelServiceClient

        return self._client(ModelServiceClient)

    @cached_property
    def endpoints(self) -> v1.EndpointServiceClient:
        """The client of endpoints."""
        from google.cloud.aiplatform_v1 import EndpointServiceClient

        return self._client(EndpointServiceClient)

    @cached_property
    def predictions(self) -> v1.PredictionServiceClient:
        """The client that asks for predictions."""
        from google.cloud.aiplatform_v1 import PredictionServiceClient

        return self._client(PredictionServiceClient)

    @cached_property
    def jobs(self) -> v1.JobServiceClient:
        """The client of batch prediction."""
        from google.cloud.aiplatform_v1 import JobServiceClient

        return self._client(JobServiceClient)

    def call(
        self,
        method: Callable[..., T],
        request: Any,
        *,
        repeat: bool = True,
        is_verdict: bool = False,
    ) -> T:
        """Send a request. Raises VertexError that says what to do.

        repeat: send it again while the service does not answer, for a minute. is_verdict: a failure
        that stays is the answer; else it is VertexUnavailable, as no answer is in any case.
        """
        retry = _retry(REPEAT_SECONDS) if repeat else None
        with self.errors_named(repeated=repeat, is_verdict=is_verdict):
            return method(request=request, retry=retry, timeout=REQUEST_SECONDS)

    def find(self, method: Callable[..., T], request: Any) -> T | None:
        """What the request asks for; None where it does not exist."""
        from flows.vertex_errors import VertexNotFound

        try:
            return self.call(method, request)
        except VertexNotFound:
            return None

    def run(self, method: Callable[..., Any], request: Any) -> Any:
        """Start an operation and wait for its end.

        Raises VertexError when it fails, VertexUnavailable when it may still be going on.
        """
        from flows.vertex_errors import expected, explain

        operation = self.call(method, request, repeat=False)
        seconds = self.settings.operation_minutes * 60
        try:
            return operation.result(timeout=seconds, retry=_retry(seconds))
        except expected() as error:
            # Once it has ended, the error is the operation's own.
            ended = operation.operation.done
            raise explain(error, self, repeated=not ended, is_verdict=ended) from error

    @contextmanager
    def errors_named(self, *, repeated: bool = False, is_verdict: bool = False) -> Iterator[None]:
        """Turn what Google's client raises into a VertexError that says what to do.

        See `flows.vertex_errors.explain`.
        """
        from flows.vertex_errors import expected, explain

        try:
            yield
        except expected() as error:
            raise explain(error, self, repeated=repeated, is_verdict=is_verdict) from error

    @property
    def api_endpoint(self) -> str:
        """Where Vertex AI is reached: a host, or an address of a stand-in."""
        default = f"{self.settings.location}-aiplatform.googleapis.com"
        return self.settings.api_endpoint or default

    def credentials(self) -> Any:
        """Google's credentials, of the same sign-in as BigQuery's. Raises VertexError."""
        from dbt.adapters.bigquery.credentials import create_google_credentials

        with self.errors_named():
            return create_google_credentials(self._credentials)

    def _client(self, kind: Callable[..., T]) -> T:
        from google.api_core.client_options import ClientOptions

        with self.errors_named():
            return kind(
                credentials=self.credentials(),
                transport=self.settings.api_transport,
                client_options=ClientOptions(
                    api_endpoint=self.api_endpoint,
                    quota_project_id=self._credentials.quota_project,
                ),
            )


def _retry(seconds: float) -> Retry:
    """Sends a request again for so long, while that may help."""
    from google.api_core.retry import Retry

    from flows.vertex_errors import is_worth_repeating

    return Retry(predicate=is_worth_repeating, initial=0.5, maximum=10, timeout=seconds)


def open_vertex(settings: Settings) -> Vertex | None:
    """The target's Vertex AI; None where it does not serve there."""
    found = read_vertex_settings(settings)
    if found is None:
        return None
    return Vertex(found, bigquery_credentials(settings), settings.target)


def check_access(settings: Settings) -> None:
    """Ask Vertex AI for the endpoint, so that nothing is trained that could not be served.

    Raises SettingsError for settings that don't go together, VertexError where it is not reached.
    """
    vertex = open_vertex(settings)
    if vertex is not None:
        vertex.find(vertex.endpoints.get_endpoint, {"name": vertex.endpoint})


def to_value(document: Mapping[str, Any]) -> Value:
    """The document as the service's messages hold it."""
    from google.protobuf import json_format, struct_pb2

    return json_format.ParseDict(dict(document), struct_pb2.Value())
