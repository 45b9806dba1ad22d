"""What Vertex AI's errors mean to whoever runs a flow, in a sentence that says what to do.

REST and gRPC raise different classes for one error, so what is asked is their base class. Nothing
of a request's headers or of the credentials goes into a message.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from flows.errors import VertexError

if TYPE_CHECKING:
    from flows.vertex import Vertex

ROLES = {
    "aiplatform.batchPredictionJobs.create": "roles/aiplatform.user",
    "aiplatform.batchPredictionJobs.get": "roles/aiplatform.user",
    "aiplatform.endpoints.create": "roles/aiplatform.user",
    "aiplatform.endpoints.deploy": "roles/aiplatform.user",
    "aiplatform.endpoints.get": "roles/aiplatform.user",
    "aiplatform.endpoints.predict": "roles/aiplatform.user",
    "aiplatform.endpoints.undeploy": "roles/aiplatform.user",
    "aiplatform.endpoints.update": "roles/aiplatform.user",
    "aiplatform.modelEvaluations.import": "roles/aiplatform.user",
    "aiplatform.modelEvaluations.list": "roles/aiplatform.user",
    "aiplatform.models.delete": "roles/aiplatform.user",
    "aiplatform.models.get": "roles/aiplatform.user",
    "aiplatform.models.list": "roles/aiplatform.user",
    "aiplatform.models.update": "roles/aiplatform.user",
    "aiplatform.models.upload": "roles/aiplatform.user",
}
"""The least of Google's roles that gives a permission."""


NO_PROJECT = re.compile(
    r"on resource project |\bproject '?[\w:.-]+'? (was |is )?(not found|deleted)", re.IGNORECASE
)
"""How a project that does not exist, or that this user may not see, is told."""


class VertexNotFound(VertexError):
    """What was asked for does not exist."""


class VertexUnavailable(VertexError):
    """Vertex AI did not answer, not in time, or was at work on the same for somebody else.

    That says nothing of what was asked for, which may be done or not: the next command finds out.
    """


def expected() -> tuple[type[BaseException], ...]:
    """What the client raises."""
    from concurrent.futures import TimeoutError as OperationTimeout

    import requests
    from dbt_common.exceptions import DbtBaseException
    from google.api_core.exceptions import GoogleAPICallError, RetryError
    from google.auth.exceptions import GoogleAuthError

    return (
        GoogleAPICallError,
        RetryError,
        GoogleAuthError,
        DbtBaseException,
        requests.exceptions.RequestException,
        OperationTimeout,
        FileNotFoundError,
    )


def is_worth_repeating(error: Exception) -> bool:
    """Whether a request that failed so may be answered a moment later."""
    import requests
    from google.api_core.exceptions import BadGateway, GatewayTimeout
    from google.api_core.retry import if_transient_error

    return if_transient_error(error) or isinstance(
        error, (BadGateway, GatewayTimeout, requests.exceptions.Timeout)
    )


def explain(
    error: BaseException, vertex: Vertex, *, repeated: bool = False, is_verdict: bool = False
) -> VertexError:
    """The error to raise instead.

    repeated: it stayed when the request was sent again. is_verdict: even a failure of the service
    is an answer then, about the model that was asked or the operation that was run.
    """
    from google.api_core import exceptions as google

    if isinstance(error, google.RetryError) and error.cause is not None:
        # What was tried again until there was no time left.
        error = error.cause
    if isinstance(error, google.TooManyRequests):
        # Requests are too many for a moment; a quota of machines is used up until it is raised.
        is_passing = repeated
    elif isinstance(error, google.GoogleAPICallError):
        is_passing = isinstance(error, google.Unauthorized) or (
            not is_verdict and isinstance(error, (google.ServerError, google.Conflict))
        )
    else:
        is_passing = True
    found = _explain(error, vertex)
    if not is_passing:
        return found
    return VertexUnavailable(f"{found} Run the command again; what is done already stays done.")


def _explain(error: BaseException, vertex: Vertex) -> VertexError:
    from google.api_core import exceptions as google
    from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError

    message = _message(error)
    where = f"target {vertex.target!r} of the dbt profile"
    part = f"the part vertex of the {where}"
    location = vertex.settings.location

    if isinstance(error, DefaultCredentialsError) or "Failed to authenticate" in message:
        return VertexError(
            f"There are no Google credentials for {where}. Sign in with `gcloud auth "
            "application-default login`, or name a service account's key file in the profile "
            "(method: service-account, keyfile: PATH)."
        )
    if isinstance(error, (GoogleAuthError, google.Unauthorized)):
        return VertexError(
            f"Google refuses the credentials of {where}: {message}. Sign in anew (`gcloud auth "
            "application-default login`)."
        )
    if not isinstance(error, google.GoogleAPICallError):
        return _unanswered(error, message, vertex, part)
    if "has not been used" in message or "SERVICE_DISABLED" in _reasons(error):
        return VertexError(
            f"Vertex AI is not enabled in the project {vertex.project}. Run `gcloud services "
            f"enable aiplatform.googleapis.com --project {vertex.project}`, and wait a minute."
        )
    if "CONSUMER_INVALID" in _reasons(error) or NO_PROJECT.search(message):
        return VertexError(
            f"There is no project {vertex.project} that this user can see: {message}. Correct "
            f"the project of the {where} (ONEDEAL_GCP_PROJECT)."
        )
    if isinstance(error, google.Forbidden):
        return VertexError(_denial(message, where))
    if isinstance(error, google.TooManyRequests):
        return VertexError(
            f"A quota of Vertex AI in {location} is used up: {message}. Raise it (Google Cloud "
            f"console, IAM & Admin, Quotas), or set a smaller machine_type in {part}."
        )
    if isinstance(error, google.NotFound):
        return VertexNotFound(
            f"Vertex AI does not find what it was asked for: {message}. Check location in {part}."
        )
    if isinstance(error, google.BadRequest):
        return VertexError(
            f"Vertex AI refuses a request: {message}. Check names, machine_type and location in "
            f"{part}."
        )
    if isinstance(error, google.Conflict):
        return VertexError(f"Something else changes the endpoint at this moment: {message}.")
    return VertexError(f"Vertex AI failed: {message}.")


def _unanswered(error: BaseException, message: str, vertex: Vertex, part: str) -> VertexError:
    from concurrent.futures import TimeoutError as OperationTimeout

    import requests

    endpoint = vertex.settings.api_endpoint or f"{vertex.settings.location}-aiplatform"
    if isinstance(error, OperationTimeout):
        return VertexError(
            "An operation of Vertex AI has not ended after "
            f"{vertex.settings.operation_minutes:g} minutes. The next command waits for it anew; "
            f"for longer with a higher operation_minutes in {part}."
        )
    if isinstance(error, requests.exceptions.RequestException):
        return VertexError(
            f"Vertex AI can't be reached at {endpoint}: {type(error).__name__}. Check the network, "
            f"and location in {part}."
        )
    return VertexError(f"The credentials of the target {vertex.target!r} can't be used: {message}")


def _denial(message: str, where: str) -> str:
    found = re.search(r"\b(aiplatform\.\w+\.\w+)", message)
    needed = "Needed is roles/aiplatform.user on the project."
    if found:
        role = ROLES.get(found[1], "roles/aiplatform.user")
        needed = f"Needed is the permission {found[1]}, for example through {role}."
    return f"Vertex AI refuses it to the user of {where}: {message}. {needed}"


def _reasons(error: Any) -> set[str]:
    """The reasons of the error's details, in Google's words (`SERVICE_DISABLED`)."""
    found = {str(getattr(error, "reason", "") or "")}
    for detail in getattr(error, "details", None) or ():
        reason = detail.get("reason") if isinstance(detail, dict) else getattr(detail, "reason", "")
        found.add(str(reason or ""))
    return found


def _message(error: Any) -> str:
    """The error's first sentence."""
    text = str(getattr(error, "message", None) or error)
    # REST puts method and address before the service's own words.
    text = re.sub(r"^(GET|POST|PATCH|DELETE) https?://\S+: ", "", text.strip())
    lines = text.splitlines()
    return lines[0].strip().removesuffix(".") if lines else type(error).__name__
