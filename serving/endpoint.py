"""Probabilities of Vertex AI's endpoint.

A pair's features go out by name, as in the bundle, and the answer has BigQuery ML's form. It is
asked over REST with a session of google-auth's: Google's client takes 3 s and 200 MB to import,
which a service that starts on demand has better uses for.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flows.errors import VertexError
from flows.vertex import Vertex
from flows.vertex_canary import read_probability

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from google.auth.transport.requests import AuthorizedSession

MAX_BYTES = 1_200_000
"""Of the instances in one request, which Vertex AI limits to 1.5 MB."""
REREAD_SECONDS = 30.0


@dataclass(frozen=True)
class Scores:
    """Probabilities in the order of the rows, and the model version that gave them."""

    probabilities: npt.NDArray[np.float64]
    model_version: str


class VertexEndpoint:
    """The endpoint of the target's profile. Thread-safe."""

    def __init__(self, vertex: Vertex, seconds: float) -> None:
        self._vertex = vertex
        self._seconds = seconds
        self._credentials: Any = None
        base = vertex.api_endpoint
        base = base if "://" in base else f"https://{base}"
        self._url = f"{base.rstrip('/')}/v1/{vertex.endpoint}"
        self._local = threading.local()
        self._lock = threading.Lock()
        self._reading = threading.Lock()
        self._versions: dict[str, str] = {}
        self._read_at = float("-inf")

    def probabilities(self, features: npt.NDArray[np.float64], names: Sequence[str]) -> Scores:
        """Ask for rows of features. Raises VertexError, within the time that settings allow.

        A canary may answer one request and the champion the next. All rows are of the same one:
        parts that another answered are asked again.
        """
        import numpy as np

        parts = _parts(dict(zip(names, row, strict=True)) for row in features.tolist())
        deadline = time.monotonic() + self._seconds
        # By deployed model, the parts that it answered.
        found: dict[str, dict[int, list[float]]] = {}
        answered_by, lacking = "", list(range(len(parts)))
        while lacking:
            for number in lacking:
                answered_by, answers = self._predict(parts[number], deadline)
                found.setdefault(answered_by, {})[number] = answers
            # By the one that answered last: another may have lost its traffic since.
            lacking = [number for number in range(len(parts)) if number not in found[answered_by]]
        rows = [one for number in range(len(parts)) for one in found[answered_by][number]]
        return Scores(np.array(rows), self._version(answered_by, deadline))

    def check(self) -> None:
        """Ask whether the endpoint is there and serves. Raises VertexError that says what to do."""
        self._read_versions(time.monotonic() + self._seconds)
        if not self._versions:
            raise VertexError(f"Nothing is deployed to {self._vertex.endpoint}.")

    def _predict(self, instances: Sequence[bytes], deadline: float) -> tuple[str, list[float]]:
        """The deployed model that answered, and its probabilities."""
        body = b'{"instances":[%b]}' % b",".join(instances)
        answer = self._send("POST", ":predict", body, deadline)
        predictions = answer.get("predictions")
        if not isinstance(predictions, list) or len(predictions) != len(instances):
            raise VertexError("The endpoint did not answer each instance with a prediction.")
        found = [read_probability(one) for one in predictions]
        if not all(0 <= one <= 1 for one in found):
            raise VertexError("The endpoint answered a probability that is not within 0 and 1.")
        return str(answer.get("deployedModelId", "")), found

    def _version(self, deployed_id: str, deadline: float) -> str:
        """The ledger's name for what is deployed, by which the canary is judged."""
        if deployed_id not in self._versions:
            with self._reading:
                is_old = time.monotonic() >= self._read_at + REREAD_SECONDS
                if deployed_id not in self._versions and is_old:
                    self._read_versions(deadline)
        # Deployed by hand, or this moment: its own number tells it apart from the others.
        return self._versions.get(deployed_id, f"deployed model {deployed_id}")

    def _read_versions(self, deadline: float) -> None:
        self._read_at = time.monotonic()
        deployed = self._send("GET", "", None, deadline).get("deployedModels", [])
        self._versions = {
            str(one.get("id", "")): str(one.get("displayName", "")) for one in deployed
        }

    def _send(self, method: str, call: str, body: bytes | None, deadline: float) -> dict[str, Any]:
        from google.api_core.exceptions import from_http_response

        left = deadline - time.monotonic()
        if left <= 0:
            raise VertexError(f"The endpoint did not answer within {self._seconds:g} s.")
        with self._vertex.errors_named():
            # Both are limits of one wait each; `max_allowed_time` is one of all of it.
            answer = self._session().request(
                method,
                self._url + call,
                data=body,
                headers={"Content-Type": "application/json"},
                timeout=left,
                max_allowed_time=left,
            )
            if answer.status_code != 200:
                raise from_http_response(answer)
            try:
                document = answer.json()
            except ValueError as error:
                raise VertexError("The endpoint's answer is no JSON.") from error
        if not isinstance(document, dict):
            raise VertexError("The endpoint's answer is no JSON object.")
        return document

    def _session(self) -> AuthorizedSession:
        """One a thread: requests does not promise that threads may share one."""
        from google.auth.transport.requests import AuthorizedSession

        if not hasattr(self._local, "session"):
            with self._lock:
                # Not at the start: a service that can't sign in has the bundle's model.
                self._credentials = self._credentials or self._vertex.credentials()
            self._local.session = AuthorizedSession(self._credentials, max_refresh_attempts=1)
        session: AuthorizedSession = self._local.session
        return session


def _parts(rows: Iterable[Mapping[str, float]]) -> list[list[bytes]]:
    """The rows as JSON, in parts that fit into a request each."""
    parts: list[list[bytes]] = []
    room = 0
    for row in rows:
        instance = json.dumps(row, allow_nan=False, separators=(",", ":")).encode()
        # And its comma.
        if len(instance) + 1 > room:
            parts.append([])
            room = MAX_BYTES
        parts[-1].append(instance)
        room -= len(instance) + 1
    return parts
