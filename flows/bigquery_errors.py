"""What BigQuery's errors mean to whoever runs a flow, in a sentence that says what to do.

The reasons are those of BigQuery's own answers (`accessDenied`, `quotaExceeded`, ...).
"""

from __future__ import annotations

import re
from concurrent.futures import TimeoutError as JobTimeout
from typing import TYPE_CHECKING, Any

import requests
from dbt_common.exceptions import DbtBaseException
from google.api_core.exceptions import GoogleAPICallError, RetryError
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, RefreshError

from flows.errors import WarehouseDenied, WarehouseError

if TYPE_CHECKING:
    from dbt.adapters.bigquery.credentials import BigQueryCredentials

ROLES = {
    "bigquery.datasets.create": "roles/bigquery.user",
    "bigquery.datasets.get": "roles/bigquery.metadataViewer",
    "bigquery.jobs.create": "roles/bigquery.jobUser",
    "bigquery.jobs.listAll": "roles/bigquery.resourceViewer",
    "bigquery.models.getData": "roles/bigquery.dataViewer",
    "bigquery.tables.create": "roles/bigquery.dataEditor",
    "bigquery.tables.get": "roles/bigquery.metadataViewer",
    "bigquery.tables.getData": "roles/bigquery.dataViewer",
    "bigquery.tables.list": "roles/bigquery.metadataViewer",
    "bigquery.tables.updateData": "roles/bigquery.dataEditor",
}
"""The least of Google's roles that gives a permission."""

LIMITED = ("rateLimitExceeded", "jobRateLimitExceeded")

_Failure = (GoogleAPICallError, RetryError, GoogleAuthError, DbtBaseException)
EXPECTED = (*_Failure, requests.exceptions.RequestException, JobTimeout, FileNotFoundError)
"""What BigQuery's client and dbt's credentials raise."""


def reason_of(error: Any) -> str:
    """BigQuery's word for what went wrong; empty where the error has none."""
    details = getattr(error, "errors", None)
    first = details[0] if details else None
    return str(first.get("reason", "")) if isinstance(first, dict) else ""


def missing_dataset(error: Any) -> str | None:
    """`project:dataset` that the error says was not found."""
    found = re.search(r"Not found: Dataset ([^\s:]+:\w+)", _message(error))
    return found[1] if found else None


def explain(
    error: BaseException, target: str, credentials: BigQueryCredentials, location: str | None
) -> WarehouseError:
    """The error to raise instead.

    location: where the dataset stands that `missing_dataset` names; None where it does not exist.
    """
    if isinstance(error, RetryError) and error.cause is not None:
        # What was tried again until there was no time left.
        error = error.cause
    message, reason = _message(error), reason_of(error)
    profile = f"target {target!r} of the dbt profile"
    endpoint = credentials.api_endpoint or "https://bigquery.googleapis.com"

    if isinstance(error, RefreshError):
        return WarehouseError(
            f"Google refuses the credentials of {profile}: {message}. Sign in anew "
            "(`gcloud auth application-default login`); to impersonate a service account one needs "
            "roles/iam.serviceAccountTokenCreator on it."
        )
    if isinstance(error, DefaultCredentialsError) or "Failed to authenticate" in message:
        return WarehouseError(
            f"There are no Google credentials for {profile}. Sign in with `gcloud auth "
            "application-default login`, or name a service account's key file in the profile "
            "(method: service-account, keyfile: PATH)."
        )
    if isinstance(error, (GoogleAuthError, DbtBaseException, FileNotFoundError)):
        return WarehouseError(f"The credentials of {profile} can't be used: {message}")
    # BigQuery has one reason for both: of what took too long it says that it "timed out".
    if reason == "stopped" and "timed out" not in message.lower():
        return WarehouseError(
            f"A BigQuery job was cancelled, by a person or a program ({message}). Run the command "
            "again if that was not meant."
        )
    if isinstance(error, JobTimeout) or reason == "stopped":
        seconds = credentials.job_execution_timeout_seconds
        limit = f"longer than {seconds} s" if seconds else "too long"
        return WarehouseError(
            f"A BigQuery job took {limit} and was stopped ({message}). Run the "
            f"command again, or give jobs more time: job_execution_timeout_seconds in {profile}."
        )
    if isinstance(error, requests.exceptions.RequestException):
        return WarehouseError(
            f"BigQuery can't be reached at {endpoint}: {message}. Check the network, and "
            f"api_endpoint in {profile}."
        )
    dataset = missing_dataset(error)
    if dataset is not None and location is not None:
        return WarehouseError(
            f"The dataset {dataset} stands in {location}, but {profile} works in "
            f"{credentials.location or 'US'}. Set its location to {location}."
        )
    if "different locations" in message:
        return WarehouseError(
            f"BigQuery can't join datasets of different locations: {message}. All datasets must "
            f"stand in the location of {profile}, {credentials.location or 'US'}."
        )
    if dataset is not None:
        return WarehouseError(
            f"There is no dataset {dataset} in {credentials.location or 'US'}. "
            "`onedeal ingest deals FILE` creates onedeal's datasets; or correct project and "
            f"dataset of {profile}."
        )
    if reason == "notFound":
        return WarehouseError(
            f"BigQuery does not find what it was asked for: {message}. `onedeal retrain` (or `dbt "
            f"build --target {target}`) builds the tables and models."
        )
    if reason == "accessDenied":
        return WarehouseDenied(_denial(message, target))
    if reason == "quotaExceeded":
        return WarehouseError(
            f"A quota of the project {credentials.execution_project} is used up: {message}. Run "
            "the command again when it has refilled, or raise the quota (Google Cloud console, "
            "IAM & Admin, Quotas)."
        )
    if reason in LIMITED:
        return WarehouseError(
            f"BigQuery limits how often it can be asked, and did so again and again: {message}. "
            "Run the command again later, when less else runs in the project."
        )
    if reason == "bytesBilledLimitExceeded":
        return WarehouseError(
            f"A query would read more than {profile} allows: {message}. Raise its "
            "maximum_bytes_billed if that is meant."
        )
    return WarehouseError(f"BigQuery failed ({reason or type(error).__name__}): {message}")


def _denial(message: str, target: str) -> str:
    found = re.search(r"\b(bigquery\.\w+\.\w+)", message)
    # Of reading a table, BigQuery does not name the permission.
    permission = found[1] if found else "bigquery.tables.getData"
    role = f", for example through {ROLES[permission]}" if permission in ROLES else ""
    return (
        f"BigQuery refuses it to the user of target {target!r}: {message}. Needed is the "
        f"permission {permission}{role}."
    )


def _message(error: Any) -> str:
    """The error's first sentence, without the SQL that Google's client adds."""
    details = getattr(error, "errors", None)
    first = details[0] if details else None
    text = first.get("message") if isinstance(first, dict) else None
    if isinstance(error, DbtBaseException):
        text = " ".join(str(error).split())
    lines = str(text or getattr(error, "message", None) or error).strip().splitlines()
    return lines[0].strip().removesuffix(".") if lines else type(error).__name__
