"""The way of a statement: Google's analyser, BigQuery ML, then bqemulator."""

import itertools
from collections.abc import Sequence
from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes import jobs as job_routes
from bqemulator.catalog.models import JobMeta
from bqemulator.domain.errors import DomainError, InvalidQueryError
from bqemulator.jobs import executor
from bqemulator.observability.logging_ import get_logger

from tests.bigquery.emulator import grants, jobs, metadata, ml_functions, models
from tests.bigquery.emulator.bytes_read import bytes_billed, bytes_by_table
from tests.bigquery.emulator.catalogue import catalogue_of, keep_options, parameter_types
from tests.bigquery.googlesql import Analyser, Catalogue, Result
from tests.bigquery.googlesql.verdicts import Verdicts, without_comment

_log = get_logger(__name__)
# Speed alone: half of what dbt sends it has sent before, against the same schemas.
_verdicts = Verdicts()


def install() -> None:
    """Take the place of what the REST routes call to run a statement."""
    run_on_bqemulator = job_routes.execute_query_job

    async def execute_query_job(
        project_id: str,
        job_id: str,
        bq_sql: str,
        query_params: list[dict[str, Any]] | None,
        ctx: AppContext,
        **rest: Any,
    ) -> JobMeta:
        # Speed alone: what was said of a text, and its translation, are found again in other runs.
        bq_sql = without_comment(bq_sql)
        try:
            catalogue = catalogue_of(ctx, project_id)
            result = _analysed(bq_sql, query_params, catalogue, ctx)
            read = bytes_by_table(result.statements, catalogue, ctx)
            jobs.check_bytes(bytes_billed(read))
            sql = metadata.rewrite(bq_sql, project_id, ctx)
            sql = ml_functions.rewrite(sql, project_id, ctx)
            statement = models.parse_statement(sql, project_id)
            meta = grants.run(sql, project_id, job_id, ctx)
            if statement:
                meta = await models.run_statement(statement, sql, project_id, job_id, ctx)
            elif meta is None:
                meta = await run_on_bqemulator(project_id, job_id, sql, query_params, ctx, **rest)
            keep_options(result.effects, jobs.place(), ctx)
            _name_columns(job_id, result)
            return _with_statistics(meta, result, read)
        except DomainError as error:
            _log.warning("statement refused", message=error.message, statement=bq_sql)
            raise
        except Exception as error:
            # An error of the emulator's own. As a 500 it would be repeated for minutes.
            _log.exception("statement failed", statement=bq_sql)
            message = f"the emulator failed: {type(error).__name__}: {error}"
            raise InvalidQueryError(message) from error

    job_routes.execute_query_job = execute_query_job


def _analysed(
    sql: str, parameters: list[dict[str, Any]] | None, catalogue: Catalogue, context: AppContext
) -> Result:
    """What the analyser found. Raises JobError where BigQuery would refuse the text."""
    types = parameter_types(parameters or [])
    key = _verdicts.key(sql, catalogue, types)
    result: Result | None = _verdicts.get(key)
    if result is None:
        result = Analyser(catalogue).check(sql, parameters=types)
        for refusal in result.refusals:
            raise jobs.JobError(str(refusal), refusal.reason)
        _verdicts.put(key, result)
    named = {name[:2] for statement in result.statements for name in statement.tables}
    jobs.check_location(named, context)
    return result


def _name_columns(job_id: str, result: Result) -> None:
    """BigQuery names columns without a name f0_, f1_, ..., bqemulator by their expressions."""
    columns = result.statements[-1].columns if result.statements else ()
    fields = executor.JOB_SCHEMAS.get(job_id, [])
    numbers = itertools.count()
    if len(fields) == len(columns):
        for field, (name, _) in zip(fields, columns, strict=True):
            if name.startswith("$"):
                field["name"] = f"f{next(numbers)}_"


def _with_statistics(meta: JobMeta, result: Result, read: Sequence[int]) -> JobMeta:
    processed = sum(read)
    query = {
        **meta.statistics.get("query", {}),
        "statementType": result.kind,
        "totalBytesProcessed": str(processed),
        "totalBytesBilled": str(bytes_billed(read)),
    }
    statistics = {**meta.statistics, "query": query, "totalBytesProcessed": str(processed)}
    return meta.model_copy(update={"statistics": statistics})
