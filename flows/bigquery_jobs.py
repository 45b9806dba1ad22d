"""Jobs on BigQuery: labelled, bounded in time and bytes, tried again where that can't do it twice.

Each job has an identifier of our own. When the answer to its start is lost, the client asks again
with the same one, and BigQuery says that it has the job: it never runs twice. Where BigQuery itself
gave a job up for a passing reason, nothing of it happened (a job is all or nothing), so another one
is started, up to `job_retries` of the profile.
"""

from __future__ import annotations

import io
import itertools
import re
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import TimeoutError as JobTimeout
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from dbt.adapters.bigquery.credentials import BigQueryCredentials, Priority
from google.api_core.exceptions import Conflict, GoogleAPICallError, NotFound
from google.api_core.retry import Retry
from google.cloud.bigquery import (
    ArrayQueryParameter,
    Client,
    CopyJobConfig,
    CreateDisposition,
    LoadJobConfig,
    QueryJobConfig,
    ScalarQueryParameter,
    SourceFormat,
    WriteDisposition,
)
from google.cloud.bigquery.retry import DEFAULT_RETRY

from flows.bigquery_errors import EXPECTED, LIMITED, explain, missing_dataset, reason_of
from flows.errors import WarehouseError

if TYPE_CHECKING:
    from google.cloud.bigquery import DatasetReference, SchemaField, TableReference
    from google.cloud.bigquery.table import RowIterator

T = TypeVar("T")

REQUEST_SECONDS = 60.0
"""For one request, and by default for asking again when BigQuery can't be reached."""
JOB_SECONDS = 24 * 3600.0
SECONDS_BETWEEN_TRIES = 5.0
PASSING = (
    *LIMITED,
    "backendError",
    "internalError",
    "jobBackendError",
    "jobInternalError",
)
"""The reasons of failures that may be gone at the next try."""

_TYPES = {
    bool: "BOOL",
    int: "INT64",
    float: "FLOAT64",
    str: "STRING",
    Decimal: "NUMERIC",
    datetime: "TIMESTAMP",
    date: "DATE",
    type(None): "STRING",
}


@dataclass(frozen=True)
class Jobs:
    """Runs jobs and other requests on one client.

    target: its name, for error messages. labels: what every job carries.
    """

    client: Client
    target: str
    credentials: BigQueryCredentials
    labels: dict[str, str]
    _failed_loads: dict[str, int] = field(default_factory=dict, init=False, repr=False)
    """Of each load that failed so far, the number of its last try."""

    def query(self, sql: str, params: Sequence[Any] = ()) -> RowIterator:
        """Run a statement or a script. Read the rows within `errors_named`."""
        credentials = self.credentials
        config = QueryJobConfig(
            query_parameters=[_parameter(value) for value in params],
            priority=(credentials.priority or Priority.Interactive).upper(),
            **self._common(),
        )
        if credentials.maximum_bytes_billed:
            config.maximum_bytes_billed = credentials.maximum_bytes_billed
        if credentials.reservation:
            config.reservation = credentials.reservation
        rows: RowIterator = self._run(
            lambda job_id: self.client.query(
                sql,
                job_config=config,
                job_id=job_id,
                job_retry=None,
                retry=self._retry,
                timeout=self._request_seconds,
            ),
            job_retry=None,
        )
        return rows

    def load(
        self,
        file: Path,
        table: TableReference,
        schema: Sequence[SchemaField],
        *,
        replace: bool = False,
    ) -> None:
        """Load a Parquet file into a table that is empty, or (replace) in place of its rows."""
        config = LoadJobConfig(
            source_format=SourceFormat.PARQUET,
            schema=schema,
            write_disposition=(
                WriteDisposition.WRITE_TRUNCATE if replace else WriteDisposition.WRITE_EMPTY
            ),
            **self._common(),
        )

        def start(job_id: str) -> Any:
            with file.open("rb") as content:
                return self.client.load_table_from_file(
                    content,
                    table,
                    size=file.stat().st_size,
                    job_id=job_id,
                    job_config=config,
                    timeout=self._request_seconds,
                )

        self._run(start)

    def load_once(
        self, content: bytes, table: TableReference, schema: Sequence[SchemaField], name: str
    ) -> None:
        """Add a Parquet file's rows to a table; once only, however often `name` is given.

        Jobs are called after `name`, and BigQuery keeps their identifiers for months: it refuses
        to start one a second time. One that failed did nothing and has used its identifier up;
        then the next is tried.
        """
        config = LoadJobConfig(
            source_format=SourceFormat.PARQUET,
            schema=schema,
            create_disposition=CreateDisposition.CREATE_NEVER,
            write_disposition=WriteDisposition.WRITE_APPEND,
            **self._common(),
        )

        def start(job_id: str) -> Any:
            return self.client.load_table_from_file(
                io.BytesIO(content),
                table,
                size=len(content),
                # Whoever calls this calls it again.
                num_retries=0,
                job_id=job_id,
                job_config=config,
                timeout=self._request_seconds,
            )

        with self.errors_named():
            for number in itertools.count(self._failed_loads.get(name, 0) + 1):
                job_id = f"onedeal_{name}_{number}"
                # The first is started without asking, since it is new nearly always.
                job = self._job(job_id) if number > 1 else None
                is_ours = job is None
                if job is None:
                    try:
                        job = start(job_id)
                    except Conflict:
                        job, is_ours = self._existing(job_id), False
                try:
                    job.result(retry=self._retry, timeout=self._job_seconds + REQUEST_SECONDS)
                    self._failed_loads.pop(name, None)
                    return
                except GoogleAPICallError:
                    if job.error_result:
                        self._failed_loads[name] = number
                    if is_ours or not job.error_result:
                        raise

    def copy(self, source: TableReference, destination: TableReference) -> None:
        """Let a table or a model be a copy of another."""
        config = CopyJobConfig(write_disposition=WriteDisposition.WRITE_TRUNCATE, **self._common())
        self._run(
            lambda job_id: self.client.copy_table(
                source,
                destination,
                job_id=job_id,
                job_config=config,
                retry=self._retry,
                timeout=self._request_seconds,
            )
        )

    def call(self, method: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Call a method of the client that is not a job."""
        with self.errors_named():
            return method(*args, retry=self._retry, timeout=REQUEST_SECONDS, **kwargs)

    def find(self, method: Callable[..., T], *args: Any) -> T | None:
        """Call a method that gets something; None where that does not exist."""
        with self.errors_named():
            try:
                return method(*args, retry=self._retry, timeout=REQUEST_SECONDS)
            except NotFound:
                return None

    def listed(
        self, method: Callable[..., Iterable[T]], dataset: DatasetReference
    ) -> list[T] | None:
        """Call a method that lists what is in a dataset; None where there is no dataset."""
        with self.errors_named():
            try:
                return list(method(dataset, retry=self._retry, timeout=REQUEST_SECONDS))
            except NotFound:
                return None

    @contextmanager
    def errors_named(self) -> Iterator[None]:
        """Raise what goes wrong inside as a WarehouseError that says what to do."""
        try:
            yield
        except EXPECTED as error:
            raise explain(error, self.target, self.credentials, self._location(error)) from error

    def _run(self, start: Callable[[str], Any], **how: Any) -> Any:
        """Start a job, wait for it, and return its result."""
        with self.errors_named():
            for tries_left in reversed(range(1 + (self.credentials.job_retries or 0))):
                job = self._started(start)
                try:
                    return job.result(
                        retry=self._retry, timeout=self._job_seconds + REQUEST_SECONDS, **how
                    )
                except JobTimeout:
                    job.cancel(retry=self._retry, timeout=REQUEST_SECONDS)
                    raise
                except GoogleAPICallError as error:
                    # A job that has ended is known to have had no effect; of others nothing is.
                    if not (tries_left and job.error_result and reason_of(error) in PASSING):
                        raise
                time.sleep(SECONDS_BETWEEN_TRIES)

    def _started(self, start: Callable[[str], Any]) -> Any:
        job_id = f"onedeal_{uuid.uuid4().hex}"
        try:
            return start(job_id)
        except Conflict:
            # The answer to an earlier request was lost: the job is there.
            return self._existing(job_id)

    def _existing(self, job_id: str) -> Any:
        return self.client.get_job(
            job_id,
            location=self.client.location,
            retry=self._retry,
            timeout=REQUEST_SECONDS,
        )

    def _job(self, job_id: str) -> Any:
        """The job, None where there is none."""
        try:
            return self._existing(job_id)
        except NotFound:
            return None

    def _common(self) -> dict[str, Any]:
        return {"labels": self.labels, "job_timeout_ms": int(self._job_seconds * 1000)}

    def _location(self, error: BaseException) -> str | None:
        """Where the dataset stands that was not found where it was looked for."""
        dataset = missing_dataset(error)
        if dataset is None:
            return None
        try:
            found = self.client.get_dataset(
                dataset.replace(":", "."), retry=self._retry, timeout=REQUEST_SECONDS
            )
        except (NotFound, *EXPECTED):
            return None
        same = (self.credentials.location or "US").lower() == str(found.location).lower()
        return None if same else str(found.location)

    @property
    def _retry(self) -> Retry:
        """For requests: they are the same however often they arrive."""
        return DEFAULT_RETRY.with_timeout(
            self.credentials.job_retry_deadline_seconds or REQUEST_SECONDS
        )

    @property
    def _request_seconds(self) -> float:
        return self.credentials.job_creation_timeout_seconds or REQUEST_SECONDS

    @property
    def _job_seconds(self) -> float:
        return self.credentials.job_execution_timeout_seconds or JOB_SECONDS


def label(value: str) -> str:
    """`value` as BigQuery takes labels: lower case, digits, `_` and `-`, 63 characters."""
    return re.sub(r"[^a-z0-9_-]", "_", value.lower())[:63]


def _parameter(value: Any) -> ScalarQueryParameter | ArrayQueryParameter:
    if isinstance(value, (list, tuple)):
        kinds = {_TYPES[type(one)] for one in value}
        return ArrayQueryParameter(None, kinds.pop() if kinds else "STRING", list(value))
    try:
        return ScalarQueryParameter(None, _TYPES[type(value)], value)
    except KeyError as error:
        raise WarehouseError(
            f"A parameter of a query can't be a {type(value).__name__}; it can be a "
            f"{', '.join(kind.__name__ for kind in _TYPES)} or a list."
        ) from error
