"""The way of a statement: the analyser, BigQuery ML, then bqemulator."""

from typing import Any

from bqemulator.api.dependencies import AppContext
from bqemulator.api.routes import jobs as job_routes
from bqemulator.catalog.models import JobMeta
from bqemulator.domain.errors import DomainError, InvalidQueryError
from bqemulator.observability.logging_ import get_logger

from tests.bigquery.emulator import ml_functions, models

_log = get_logger(__name__)


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
        try:
            sql = ml_functions.rewrite(bq_sql, project_id, ctx)
            statement = models.parse_statement(sql, project_id)
            if statement:
                return await models.run_statement(statement, sql, project_id, job_id, ctx)
            return await run_on_bqemulator(project_id, job_id, sql, query_params, ctx, **rest)
        except DomainError as error:
            _log.warning("statement refused", message=error.message, statement=bq_sql)
            raise
        except Exception as error:
            # An error of the emulator's own. As a 500 it would be repeated for minutes.
            _log.exception("statement failed", statement=bq_sql)
            message = f"the emulator failed: {type(error).__name__}: {error}"
            raise InvalidQueryError(message) from error

    job_routes.execute_query_job = execute_query_job
