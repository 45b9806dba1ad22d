"""Load jobs as BigQuery runs them: columns by name, types checked, the client's own job id.

bqemulator loads by position, casts what it can, and counts the whole table's rows as loaded.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes import jobs as job_routes
from bqemulator.api.routes import upload
from bqemulator.catalog.models import JobMeta
from bqemulator.domain.errors import DomainError, ValidationError
from bqemulator.jobs import executor
from bqemulator.storage.type_map import duckdb_type_to_bq_field

from tests.bigquery.emulator import jobs

_READERS = {
    "PARQUET": "read_parquet(?)",
    "NEWLINE_DELIMITED_JSON": "read_json(?, format = 'newline_delimited', columns = {columns})",
}
_SAME = {("DATETIME", "TIMESTAMP")}
"""Types of a file's and of a table's column that differ and fit all the same."""

_loaded: ContextVar[list[int]] = ContextVar("loaded")
_upload: ContextVar[Mapping[str, str]] = ContextVar("upload")


def _columns(query: str, path: str, context: AppContext) -> dict[str, str]:
    """The columns of a query over a file, or of a table, with DuckDB's types."""
    described = context.engine.execute(f"DESCRIBE {query}", [path] if "?" in query else None)
    return {name: kind for name, kind, *_ in described.fetchall()}


def _check(job: Any, given: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Refuse columns that the table lacks, and such of another type. Raises ValidationError."""
    table = f"{job.project_id}:{job.dataset_id}.{job.table_id}"
    for name, kind in given.items():
        if name not in known:
            raise ValidationError(
                f"Provided Schema does not match Table {table}. Cannot add fields (field: {name})"
            )
        found, wanted = (duckdb_type_to_bq_field(name, k) for k in (kind, known[name]))
        types = found["type"], wanted["type"]
        if found["mode"] != wanted["mode"] or (types[0] != types[1] and types not in _SAME):
            raise ValidationError(
                f"Provided Schema does not match Table {table}. Field {name} has changed type "
                f"from {types[1]} to {types[0]}"
            )


def _check_keys(path: str, job: Any, known: Mapping[str, str], context: AppContext) -> None:
    """Refuse JSON with keys that are no columns. Raises ValidationError."""
    keys = context.engine.execute(
        "SELECT DISTINCT unnest(json_keys(json)) FROM read_json_objects(?, format = 'nd')", [path]
    )
    unknown = sorted({key for (key,) in keys.fetchall()} - set(known))
    if unknown and not job.raw_config.get("ignoreUnknownValues"):
        raise ValidationError(
            "Error while reading data, error message: JSON parsing error in row starting at "
            f"position 0: No such field: {unknown[0]}."
        )


def _load(path: str, job: Any, context: AppContext) -> None:
    known = _columns(job.target_ref, path, context)
    reader = _READERS[job.source_format]
    if job.source_format == "PARQUET":
        _check(job, _columns(f"SELECT * FROM {reader}", path, context), known)
    else:
        _check_keys(path, job, known, context)
        reader = reader.replace("{columns}", repr(known))
    inserted = context.engine.execute(
        f"INSERT INTO {job.target_ref} BY NAME SELECT * FROM {reader}", [path]
    )
    _loaded.get().append(inserted.fetchone()[0])


def install() -> None:
    """Take the place of bqemulator's loading of Parquet and JSON."""
    load_path, create_destination = (
        executor._load_path_into_target,
        executor._maybe_create_load_destination,
    )
    run, run_upload = executor.execute_load_job, upload._run_load
    read_configuration = upload._load_configuration_from_envelope

    def load_path_into_target(path: str, job: Any, context: AppContext) -> None:
        if job.source_format in _READERS:
            _load(path, job, context)
        else:
            load_path(path, job, context)

    def create_load_destination(
        *, load_config: dict[str, Any], ctx: AppContext, **rest: Any
    ) -> None:
        """A Parquet file brings its schema."""
        if load_config.get("sourceFormat") == "PARQUET" and not load_config.get("schema"):
            path = executor._resolve_uri(load_config["sourceUris"][0], ctx)
            columns = _columns("SELECT * FROM read_parquet(?)", path, ctx)
            fields = [duckdb_type_to_bq_field(name, kind) for name, kind in columns.items()]
            load_config = {**load_config, "schema": {"fields": fields}}
        create_destination(load_config=load_config, ctx=ctx, **rest)

    async def execute_load_job(
        project: str, job_id: str, config: dict[str, Any], context: AppContext
    ) -> JobMeta:
        _loaded.set([])
        try:
            meta = await run(project, job_id, config, context)
        except DomainError as error:
            # The job fails, not the request for it.
            fault = {"reason": error.bq_reason, "message": error.message}
            return job_routes._failed_job_meta(
                project, job_id, "LOAD", config, fault, context.clock.now()
            )
        files = [executor._resolve_uri(uri, context) for uri in config["load"]["sourceUris"]]
        size = str(sum(Path(file).stat().st_size for file in files))
        statistics = {
            "outputRows": str(sum(_loaded.get())),
            "inputFiles": str(len(files)),
            "inputFileBytes": size,
            "outputBytes": size,
        }
        return meta.model_copy(update={"statistics": {"load": statistics}})

    def load_configuration(envelope: dict[str, Any]) -> dict[str, Any]:
        reference = envelope.get("jobReference", {})
        return {**read_configuration(envelope), "jobReference": reference}

    async def run_load(
        *, project_id: str, configuration: dict[str, Any], ctx: AppContext, **rest: Any
    ) -> tuple[str, JobMeta]:
        reference = configuration.pop("jobReference")
        _upload.set(reference)
        jobs.begin(project_id, reference, ctx)
        found: tuple[str, JobMeta] = await run_upload(
            project_id=project_id, configuration=configuration, ctx=ctx, **rest
        )
        return found

    # The client sends files as `*/*`.
    upload._is_permitted_media_type = lambda kind: True
    upload._load_configuration_from_envelope = load_configuration
    upload._run_load = run_load
    upload._new_job_id = lambda: _upload.get()["jobId"]
    upload._build_job_response = job_routes._build_job_response
    executor._load_path_into_target = load_path_into_target
    executor._maybe_create_load_destination = create_load_destination
    upload.execute_load_job = job_routes.execute_load_job = execute_load_job
