"""Jobs: their place, their labels and statistics, jobs.list, jobs.query and the view JOBS.

bqemulator forgets a query job's labels, says that nothing was read, and lists by state alone.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

import pyarrow as pa
from bqemulator.api.dependencies import AppContext, get_caller, get_context
from bqemulator.api.routes import jobs as job_routes
from bqemulator.catalog.models import JobMeta
from bqemulator.domain.errors import AlreadyExistsError, DomainError, NotFoundError
from bqemulator.row_access.identity import CallerIdentity
from fastapi import APIRouter, Depends, Query, Request

router = APIRouter(prefix="/bigquery/v2/projects/{project_id}")

Context = Annotated[AppContext, Depends(get_context)]
Caller = Annotated[CallerIdentity, Depends(get_caller)]

LOCATIONS: dict[str, str] = {}
"""Where each job ran, by its id."""

requested_location: ContextVar[str | None] = ContextVar("requested_location", default=None)
"""Where the client wants the job of this request to run."""

maximum_bytes: ContextVar[int | None] = ContextVar("maximum_bytes", default=None)
"""The most that the job of this request may be billed for."""


class JobError(DomainError):  # type: ignore[misc]
    """A failed job, with BigQuery's word for the reason."""

    http_status = 400
    grpc_status_name = "INVALID_ARGUMENT"

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message, location="query")
        self.bq_reason = reason


@router.post("/jobs")
async def insert(
    project_id: str, request: Request, context: Context, caller: Caller
) -> dict[str, Any]:
    """jobs.insert: bqemulator's, in a place and within a limit of bytes."""
    body = await request.json()
    reference = body.setdefault("jobReference", {})
    reference.setdefault("jobId", uuid4().hex)
    maximum_bytes.set(_limit(body["configuration"].get("query", {})))
    begin(project_id, reference, context)
    response: dict[str, Any] = await job_routes.insert_job(project_id, request, context, caller)
    return response


@router.post("/queries")
async def query(
    project_id: str, request: Request, context: Context, caller: Caller
) -> dict[str, Any]:
    """jobs.query: the same job as jobs.insert makes, answered with its first rows."""
    body = await request.json()
    job_id = uuid4().hex
    maximum_bytes.set(_limit(body))
    begin(project_id, {"jobId": job_id, "location": body.get("location")}, context)
    config = {"query": body, "labels": body.get("labels", {})}
    dry_run = body.get("dryRun", False)
    meta = await job_routes._handle_query_job(
        project_id,
        job_id,
        config,
        dry_run=dry_run,
        ctx=context,
        caller=caller,
        now=context.clock.now(),
    )
    if dry_run:
        statistics = meta["statistics"]["query"]
        return {"jobComplete": True, "schema": statistics["schema"], **statistics}
    context.catalog.upsert_job(meta)
    if meta.error_result:
        raise JobError(meta.error_result["message"], meta.error_result["reason"])
    response: dict[str, Any] = job_routes.get_query_results(
        project_id, job_id, context, body.get("maxResults", 10_000), 0, None
    )
    job_routes._attach_query_metadata(response, meta)
    response["jobReference"] = _reference(project_id, job_id)
    return response


@router.get("/jobs")
async def list_jobs(
    project_id: str,
    context: Context,
    states: Annotated[list[str], Query(alias="stateFilter")] = [],  # noqa: B006
    earliest: Annotated[int, Query(alias="minCreationTime")] = 0,
    latest: Annotated[int, Query(alias="maxCreationTime")] = 2**62,
    size: Annotated[int, Query(alias="maxResults")] = 1000,
    start: Annotated[int, Query(alias="pageToken")] = 0,
    parent: Annotated[str | None, Query(alias="parentJobId")] = None,
) -> dict[str, Any]:
    """jobs.list: the newest first, by state and time of creation."""
    wanted = {state.upper() for state in states}
    found = [
        meta
        for meta in _jobs(project_id, context)
        if parent is None
        and (not wanted or meta.state in wanted)
        and earliest <= meta.creation_time.timestamp() * 1000 <= latest
    ]
    listed = [
        job_routes._build_job_response(project_id, meta.job_id, meta, meta.configuration)
        for meta in found[start : start + size]
    ]
    page: dict[str, Any] = {"kind": "bigquery#jobList", "jobs": listed}
    if start + size < len(found):
        page["nextPageToken"] = str(start + size)
    return page


def begin(project: str, reference: Mapping[str, str | None], context: AppContext) -> None:
    """Note a new job and its place. Raises AlreadyExistsError for an id that was used before."""
    job_id = str(reference["jobId"])
    requested_location.set(reference.get("location"))
    if context.catalog.get_job(project, job_id) is not None:
        raise AlreadyExistsError(f"Already Exists: Job {project}:{place()}.{job_id}")
    LOCATIONS[job_id] = place()


def _jobs(project: str, context: AppContext) -> tuple[JobMeta, ...]:
    found: tuple[JobMeta, ...] = context.catalog.list_jobs(project, max_results=1_000_000)
    return found


def _limit(config: dict[str, Any]) -> int | None:
    limit = config.get("maximumBytesBilled")
    return None if limit is None else int(limit)


def _reference(project: str, job_id: str) -> dict[str, str]:
    return {"projectId": project, "jobId": job_id, "location": LOCATIONS.get(job_id, "US")}


def place() -> str:
    """Where the job of this request runs."""
    return requested_location.get() or "US"


def check_location(datasets: set[tuple[str, str]], context: AppContext) -> None:
    """Refuse a job that names a dataset of another place. Raises NotFoundError."""
    wanted = requested_location.get()
    for project, dataset in sorted(datasets):
        meta = context.catalog.get_dataset(project, dataset)
        if wanted and meta and meta.location.lower() != wanted.lower():
            raise NotFoundError(
                f"Not found: Dataset {project}:{dataset} was not found in location {wanted}"
            )


def check_bytes(billed: int) -> None:
    """Refuse a job that would cost more than it may. Raises JobError."""
    limit = maximum_bytes.get()
    if limit is not None and billed > limit:
        raise JobError(
            f"Query exceeded limit for bytes billed: {limit}. {billed} or higher required.",
            "bytesBilledLimitExceeded",
        )


JOBS_TYPE = pa.schema(
    [
        ("creation_time", pa.timestamp("us", "UTC")),
        ("project_id", pa.string()),
        ("user_email", pa.string()),
        ("job_id", pa.string()),
        ("job_type", pa.string()),
        ("parent_job_id", pa.string()),
        ("statement_type", pa.string()),
        ("start_time", pa.timestamp("us", "UTC")),
        ("end_time", pa.timestamp("us", "UTC")),
        ("query", pa.string()),
        ("state", pa.string()),
        ("total_bytes_processed", pa.int64()),
        ("total_bytes_billed", pa.int64()),
        ("total_slot_ms", pa.int64()),
        ("cache_hit", pa.bool_()),
        ("labels", pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())]))),
        (
            "destination_table",
            pa.struct([(n, pa.string()) for n in ("project_id", "dataset_id", "table_id")]),
        ),
        (
            "error_result",
            pa.struct([(n, pa.string()) for n in ("reason", "location", "debug_info", "message")]),
        ),
    ]
)
"""The columns of INFORMATION_SCHEMA.JOBS."""


def view_of_jobs(project: str, region: str, context: AppContext) -> pa.Table:
    """The rows of `region-x`.INFORMATION_SCHEMA.JOBS."""
    rows = [
        _row(meta)
        for meta in _jobs(project, context)
        if LOCATIONS.get(meta.job_id, "US").lower() == region.lower()
    ]
    return pa.Table.from_pylist(rows, JOBS_TYPE)


def _row(meta: JobMeta) -> dict[str, Any]:
    statistics, config = meta.statistics.get("query", {}), meta.configuration
    target = config.get("query", {}).get("destinationTable")
    error = meta.error_result
    return {
        "creation_time": _utc(meta.creation_time),
        "project_id": meta.project_id,
        "user_email": meta.user_email or "anonymous@example.com",
        "job_id": meta.job_id,
        "job_type": meta.job_type,
        "parent_job_id": None,
        "statement_type": statistics.get("statementType"),
        "start_time": _utc(meta.start_time),
        "end_time": _utc(meta.end_time),
        "query": config.get("query", {}).get("query"),
        "state": meta.state,
        "total_bytes_processed": int(statistics.get("totalBytesProcessed", 0)),
        "total_bytes_billed": int(statistics.get("totalBytesBilled", 0)),
        "total_slot_ms": int(statistics.get("totalSlotMs", 0)),
        "cache_hit": False,
        "labels": [{"key": k, "value": v} for k, v in config.get("labels", {}).items()],
        "destination_table": target
        and {
            "project_id": target["projectId"],
            "dataset_id": target["datasetId"],
            "table_id": target["tableId"],
        },
        "error_result": error
        and {
            "reason": error.get("reason"),
            "location": error.get("location"),
            "debug_info": None,
            "message": error.get("message"),
        },
    }


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def install() -> None:
    """Let a job remember what the client said of it, and failed jobs their reason."""
    execute, build_response = (
        job_routes._execute_query_or_failed_meta,
        job_routes._build_job_response,
    )
    job_routes._SQL_EXECUTION_DOMAIN_ERRORS += (JobError,)

    async def execute_with_configuration(*, config: dict[str, Any], **rest: Any) -> JobMeta:
        meta = await execute(config=config, **rest)
        query_config = {**meta.configuration["query"], **config["query"]}
        return meta.model_copy(update={"configuration": {**config, "query": query_config}})

    def build_job_response(project: str, job_id: str, *rest: Any) -> dict[str, Any]:
        response: dict[str, Any] = build_response(project, job_id, *rest)
        response["jobReference"] = _reference(project, job_id)
        return response

    job_routes._execute_query_or_failed_meta = execute_with_configuration
    job_routes._build_job_response = build_job_response
